# Twopane with the built-in pair; ratings, and weights that are fetched, are in the volume /data.
#   docker build -t twopane . && docker run -p 7860:7860 -v twopane:/data twopane
FROM python:3.11-slim

# On Linux the default index's torch brings gigabytes of CUDA; this one has the CPU build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    TWOPANE_HOST=0.0.0.0 \
    TWOPANE_PORT=7860 \
    TWOPANE_DATABASE_URL=sqlite:////data/twopane.db \
    TWOPANE_CACHE=/data/cache

RUN useradd --uid 1000 --create-home twopane && install -d -o twopane -g twopane /data
WORKDIR /home/twopane/app

COPY requirements.txt .
RUN torch="$(grep '^torch==' requirements.txt)" \
    && (pip install --index-url "$TORCH_INDEX" --retries 0 --timeout 5 "$torch" || pip install "$torch") \
    && pip install --requirement requirements.txt

COPY --chown=twopane app.py LICENSE README.md ./
COPY --chown=twopane backends backends
COPY --chown=twopane db db
COPY --chown=twopane rating rating
COPY --chown=twopane ui ui

USER 1000
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python -c "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"TWOPANE_PORT\"]}/healthz', timeout=4)"
CMD ["python", "app.py", "serve"]
