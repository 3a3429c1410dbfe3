"""The contenders: builds what they need, makes their weights and says how each is started."""

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paths import ROOT
from benchmarks.peers.building import (
    THREADS_VARIABLE,
    BuildError,
    Peer,
    build_chatglm,
    build_llama,
)
from benchmarks.peers.contender import Contender
from benchmarks.peers.ggml_files import write_ggml
from benchmarks.peers.measures import (
    BROWSER,
    CHATGLM_CPP,
    LLAMA_Q4_0,
    LLAMA_Q8_0,
    OWN_CHATGLM,
    OWN_ENGINE,
    OWN_INT4,
    OWN_INT8,
    READER,
)
from benchmarks.random_weights import make_chatglm_6b_int4, make_qwen_0_5b

_CHILDREN = "benchmarks.peers.children"
_LLAMA = {LLAMA_Q8_0, LLAMA_Q4_0}
_QWEN = {OWN_INT8, OWN_INT4, OWN_ENGINE, BROWSER, *_LLAMA}
_CHATGLM = {OWN_CHATGLM, CHATGLM_CPP}
# Waiting threads sleep, as `backends.server` has it.
_AS_IN_A_SERVER = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class Lineup:
    """Contenders that are ready to be started.

    Attributes:
        contenders: By name.
        peers: How each peer was built, by its package.
    """

    contenders: Mapping[str, Contender]
    peers: Mapping[str, str]


def prepare(
    wanted: Collection[str], folder: Path, weights: Path, say: Callable[[str], None]
) -> Lineup:
    """Make ready what isn't yet.

    Args:
        wanted: Names of contenders.
        folder: For the peers and their weights.
        weights: For our checkpoints: `qwen` and `chatglm` in it.
        say: Is told what takes long.

    Raises:
        BuildError: A peer can't be built or its weights can't be made.
    """
    folder, weights = folder.resolve(), weights.resolve()
    qwen, chatglm = weights / "qwen", weights / "chatglm"
    if not _QWEN.isdisjoint(wanted) and not (qwen / "config.json").exists():
        say(f"Making {qwen} ...")
        make_qwen_0_5b(qwen)
    if not _CHATGLM.isdisjoint(wanted) and not (chatglm / "config.json").exists():
        say(f"Making {chatglm} ...")
        make_chatglm_6b_int4(chatglm)
    contenders, peers = _own(qwen, chatglm), {}
    if not _LLAMA.isdisjoint(wanted):
        say(f"Building llama.cpp in {folder} and making its weights (minutes, once) ...")
        peer = build_llama(folder)
        peers[peer.version] = peer.flags
        contenders |= _llama(peer, folder, qwen)
    if CHATGLM_CPP in wanted:
        say(f"Building chatglm.cpp in {folder} and making its weights (minutes, once) ...")
        peer = build_chatglm(folder)
        peers[peer.version] = peer.flags
        contenders[CHATGLM_CPP] = _chatglm(peer, folder, chatglm)
    return Lineup({name: contenders[name] for name in wanted}, peers)


def _own(qwen: Path, chatglm: Path) -> dict[str, Contender]:
    def own(name: str, child: str, *arguments: str) -> Contender:
        command = (sys.executable, "-m", f"{_CHILDREN}.{child}", *arguments)
        return Contender(name, command, _AS_IN_A_SERVER)

    every = (
        own(OWN_INT8, "own_model", str(qwen), "int8"),
        own(OWN_INT4, "own_model", str(qwen), "int4"),
        own(OWN_CHATGLM, "own_model", str(chatglm), "int4"),
        own(OWN_ENGINE, "own_engine", str(qwen), "int8"),
        own(BROWSER, "browser", str(qwen), "int8"),
        own(READER, "reader"),
    )
    return {one.name: one for one in every}


def _llama(peer: Peer, folder: Path, checkpoint: Path) -> dict[str, Contender]:
    arguments = ["-m", "benchmarks.peers.gguf_files", str(checkpoint), str(folder)]
    _with_peers_python(peer, arguments, folder / "gguf.log")
    module = f"{_CHILDREN}.llama"
    found = {}
    for name, kind in ((LLAMA_Q8_0, "q8_0"), (LLAMA_Q4_0, "q4_0")):
        command = (str(peer.python), "-m", module, str(folder / f"qwen-{kind}.gguf"))
        found[name] = Contender(name, command, peer.variables)
    return found


def _chatglm(peer: Peer, folder: Path, checkpoint: Path) -> Contender:
    file = folder / "chatglm-q4_0.ggml"
    write_ggml(checkpoint, file)
    command = (str(peer.python), "-m", f"{_CHILDREN}.chatglm_cpp", str(file))
    return Contender(CHATGLM_CPP, command, peer.variables, THREADS_VARIABLE)


def _with_peers_python(peer: Peer, arguments: list[str], log: Path) -> None:
    command = [str(peer.python), *arguments]
    with log.open("wb") as output:
        code = subprocess.call(
            command, cwd=ROOT, env={**os.environ, **peer.variables}, stdout=output, stderr=output
        )
    if code:
        raise BuildError(f"llama.cpp's weights could not be made: {log}")
