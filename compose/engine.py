"""Runs gameday's own Docker engine, with its own data, socket and network namespace, beside any other engine.

`python -m compose.engine up|down|clean|status|exec [--folder DIR] [-- COMMAND…]`, as root. The namespace has no route
out: the firewall rules of the machine and of other engines stay as they are, no packet of a container leaves the
machine, and published ports are on the namespace's own loopback. `exec` runs a command there, and points it at this
engine. The engine uses no registry: images are built or imported; `host_image` makes one of links into /usr.

A small process, the keeper, owns the engine and its containers: they end with it. The callers decide what runs in the
containers.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compose.servers import SHARE, Report
from gameday.errors import GamedayError, NotUp, TooLate
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.system.process import Process, descendants
from gameday.system.unix import alone

__all__ = ["Engine", "host_image", "install", "main", "unavailable"]

PACKAGES: Mapping[str, str] = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables", "ip": "iproute2"}
"""Program -> Debian's package that has it."""

PLUGINS: Mapping[str, str] = {"docker-compose": "docker-compose", "docker-buildx": "docker-buildx"}
"""Plugin of the docker command -> Debian's package that has it, from RELEASE on."""

RELEASE = "trixie"
"""The first Debian with Compose 2. Its packages are only unpacked: nothing of the machine's own is replaced."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""Where Debian's packages ask whether they may start what they have just installed."""

MARK = "GAMEDAY_ENGINE"
"""A variable with the engine's folder, in the environment of all that the keeper starts outside of containers."""

SOCKET_BYTES_MAX = 100
"""A unix socket's path holds 108 bytes."""

INSTALL_S = 600.0
LOCK_S = 300
"""How long to wait for another apt-get."""
START_S = 60.0
PING_S = 2.0
SHUTDOWN_S = 5
"""The grace of the containers that still run when the engine ends."""
STOP_S = SHUTDOWN_S + 25.0
SWEEP_S = 10.0

CGROUPS = Path("/sys/fs/cgroup")
WEIGHT = 20
"""On a busy processor all containers together weigh as much as so many sessions of the machine. By default a cgroup
weighs as much as one, and then programs that look at the containers would take their time.
"""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Engine:
    """The engine that has its socket, data, log and the docker command's settings in this folder."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "docker.sock"

    @property
    def log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def cgroup(self) -> str:
        """The name of the cgroup of all its containers."""
        return f"gameday-{zlib.crc32(os.fsencode(self.folder)):08x}"

    @property
    def cgroups(self) -> list[Path]:
        """Where the cgroup is: in the one hierarchy, or in each controller's own."""
        return [*CGROUPS.glob(self.cgroup), *CGROUPS.glob(f"*/{self.cgroup}")]

    @property
    def env(self) -> dict[str, str]:
        """The variables that point the docker command, Compose and the SDK at this engine."""
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder / "config")}

    @property
    def process(self) -> Process | None:
        """The engine's own process; None: it isn't up."""
        return self._noted("engine")

    def up(self, report: Report, plugins: bool = True) -> None:
        """Install what is missing, start, and return when it answers. On a running engine it does nothing.

        plugins: also get Compose and buildx. Raises GamedayError with the remedy.
        """
        if why := unavailable():
            raise GamedayError(f"no engine of our own here: {why}")
        if len(os.fsencode(self.socket)) > SOCKET_BYTES_MAX:
            raise GamedayError(
                f"{self.socket} is longer than {SOCKET_BYTES_MAX} bytes, which is more than a socket's path may have. "
                "Remedy: a shorter --folder"
            )
        with self._alone():
            install(report)
            if plugins:
                self._plugins(report)
            if self.process and self._answers():
                report("the engine is up already")
                return
            self._stop()
            self._start()
        report(f"the engine is up: DOCKER_HOST={self.env['DOCKER_HOST']}")

    def down(self, report: Report = lambda _: None) -> None:
        """End the engine and every container, also after the keeper was killed. Images and volumes stay."""
        if not self.folder.is_dir():
            report("no engine is up")
            return
        with self._alone():
            report("the engine is down" if self._stop() else "no engine was up")

    def clean(self, report: Report = lambda _: None) -> None:
        """Down, and remove all that it stored."""
        self.down(report)
        shutil.rmtree(self.folder, ignore_errors=True)

    def at(self, *command: str) -> list[str]:
        """Return the command line that runs this command where the published ports are. Raises NotUp."""
        process = self.process
        if process is None:
            raise NotUp(f"no engine is up in {self.folder}. Remedy: python -m compose.engine up")
        return ["nsenter", f"--net=/proc/{process.pid}/ns/net", "--", *command]

    def docker(self, *args: str, stdin: bytes | None = None) -> str:
        """Return what the docker command prints. Raises GamedayError with its message when it fails."""
        done = subprocess.run(["docker", *args], env={**os.environ, **self.env}, input=stdin, capture_output=True)
        if done.returncode:
            raise GamedayError(
                f"docker {' '.join(args)[:100]} ended with {done.returncode}: {done.stderr.decode()[-1000:]}"
            )
        return done.stdout.decode()

    # ---- its life ------------------------------------------------------------------------------------------------

    @property
    def _notes(self) -> Path:
        return self.folder / "processes.json"

    def _noted(self, who: str) -> Process | None:
        try:
            found = Process.parse(json.loads(self._notes.read_text())[who])
        except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
            return None
        return found if found.alive else None

    def _answers(self) -> bool:
        import docker
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            client = docker.APIClient(base_url=self.env["DOCKER_HOST"], timeout=PING_S)
        except DockerException:
            return False
        with contextlib.closing(client):
            try:
                return bool(client.ping())
            except (DockerException, RequestException):
                return False

    def _start(self) -> None:
        (self.folder / "config").mkdir(exist_ok=True)
        self._notes.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "compose.engine", "keep", "--folder", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, MARK: str(self.folder)},
                start_new_session=True,
            )
        try:
            until(lambda: keeper.poll() is not None or self._answers(), START_S, 0.05, "the engine to answer")
            if keeper.poll() is not None:
                raise TooLate(f"it ended at once ({keeper.returncode})")
        except BaseException as e:
            self._stop()
            if isinstance(e, TooLate):
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                raise GamedayError(f"the engine does not come up: {e}. The end of {self.log}:\n{tail}") from e
            raise

    def _stop(self) -> bool:
        """End the keeper, and with it everything; then what outlived it. Return whether anything was there."""
        keeper = self._noted("keeper")
        if keeper is not None:
            keeper.send(signal.SIGTERM)
            try:
                until(lambda: _gone(keeper), STOP_S, 0.05, "the keeper's end")
            except TooLate:
                keeper.send(signal.SIGKILL)
        found = _sweep(lambda: _strays(self.folder))
        for folder in self.cgroups:
            for inner, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(inner)
        self.socket.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        return found or keeper is not None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one `up` or `down` of an engine run at a time."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.folder, "another `up` or `down` of the engine"):
            yield

    # ---- Compose ---------------------------------------------------------------------------------------------------

    def _plugins(self, report: Report) -> None:
        """Put Compose and buildx where this engine's docker command looks, unless the machine has them."""
        target = self.folder / "config" / "cli-plugins"
        target.mkdir(parents=True, exist_ok=True)
        store = SHARE / "docker"
        wanted = {plugin: package for plugin, package in PLUGINS.items() if not _has(plugin)}
        if missing := {plugin: package for plugin, package in wanted.items() if not (store / plugin).exists()}:
            report(f"docker: unpacking {', '.join(missing.values())} of Debian {RELEASE}")
            _unpack(missing, store)
        for plugin in wanted:
            (target / plugin).unlink(missing_ok=True)
            (target / plugin).symlink_to(store / plugin)


def unavailable() -> str | None:
    """Say why no engine can be started here; None: one can."""
    if os.geteuid() != 0:
        return "only root can start one"
    missing = [program for program in (*PACKAGES, "unshare", "nsenter") if not shutil.which(program)]
    if missing and not shutil.which("apt-get"):
        return f"{', '.join(missing)} not found, and there is no apt-get. Remedy: install Docker's engine"
    return None


def host_image(engine: Engine, name: str) -> str:
    """Import an image that has only links into /usr: its containers mount the machine's /usr there, read-only, and run
    its programs. If an init is asked for, the engine puts it into /sbin. Return the image's name."""
    made = io.BytesIO()
    files = {"etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"}
    files["etc/group"] = "root:x:0:\nnogroup:x:65534:\n"
    with tarfile.open(fileobj=made, mode="w") as tar:

        def add(path: str, kind: bytes, mode: int = 0o755, link: str = "", text: str = "") -> None:
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.linkname, info.size = kind, mode, link, len(text)
            tar.addfile(info, io.BytesIO(text.encode()))

        for path in ("bin", "lib", "lib64"):
            add(path, tarfile.SYMTYPE, link=f"usr/{path}")
        for path in ("usr", "sbin", "etc", "proc", "sys", "dev", "run", "var", "root"):
            add(path, tarfile.DIRTYPE)
        for path in ("tmp", "var/tmp"):
            add(path, tarfile.DIRTYPE, 0o1777)
        for path, text in files.items():
            add(path, tarfile.REGTYPE, 0o644, text=text)
    engine.docker("import", "-", name, stdin=made.getvalue())
    return name


# ---- the keeper ------------------------------------------------------------------------------------------------------


def keep(engine: Engine) -> int:
    """Run the engine in its own namespaces until SIGTERM, or until it ends; leave none of its processes behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # containers' shims are orphans on purpose: we adopt them
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)

    def child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # /run is its own too: the engine and containerd keep sockets and namespaces at fixed places there.
    begin = 'ip link set lo up && mount -t tmpfs -o mode=755 tmpfs /run && exec dockerd "$@"'
    options = ["--host", engine.env["DOCKER_HOST"], "--data-root", str(engine.folder / "data")]
    options += ["--shutdown-timeout", str(SHUTDOWN_S), "--log-level", "warn", "--userland-proxy=false"]
    options += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{engine.cgroup}"]
    _weigh(engine.cgroup)
    run = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", begin, "dockerd", *options], preexec_fn=child)
    process = Process.of(run.pid)
    if process is not None:
        text = json.dumps({"keeper": Process.me().json(), "engine": process.json()})
        part = engine.folder / "processes.json.new"
        part.write_text(text)
        part.rename(engine.folder / "processes.json")
    while run.returncode is None:
        if signal.sigwait(awaited) == signal.SIGCHLD:
            _reap(run)
        else:
            run.terminate()
    _sweep(lambda: descendants(os.getpid()), lambda: _reap(run))
    return 0


def _weigh(name: str) -> None:
    """Make this cgroup with its WEIGHT; without a controller the containers keep their default weight."""
    for hierarchy, file, one in ((CGROUPS / "cpu", "cpu.shares", 1024), (CGROUPS, "cpu.weight", 100)):
        if (hierarchy / "cgroup.procs").exists():
            with contextlib.suppress(OSError):
                (hierarchy / name).mkdir(exist_ok=True)
                (hierarchy / name / file).write_text(str(WEIGHT * one))


def _reap(run: subprocess.Popen[bytes]) -> None:
    """Take the exit status of every child that ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == run.pid:
                run.returncode = os.waitstatus_to_exitcode(ended[1])


def _strays(folder: Path) -> list[Process]:
    """Return the processes that a keeper of this folder started and that outlived it, containers included."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            process = Process.of(pid)
            if process and pid != os.getpid() and mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found += [process, *descendants(pid)]
    return found


def _sweep(left: Callable[[], list[Process]], between: Callable[[], None] = lambda: None) -> bool:
    """Kill what is left until nothing is. Return whether anything was left."""
    found = False

    def swept() -> bool:
        nonlocal found
        processes = left()
        for process in processes:
            found = True
            process.send(signal.SIGKILL)
        between()
        return not processes

    until(swept, SWEEP_S, 0.02, "the end of the engine's processes")
    return found


def _gone(process: Process) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # it is our child when this process started it
    return not process.alive


# ---- packages --------------------------------------------------------------------------------------------------------


def install(report: Report, packages: Mapping[str, str] = PACKAGES) -> None:
    """Install Debian's packages of those programs that the machine lacks. None of their services is started.

    packages: program -> package; those of the engine. Raises GamedayError.
    """
    missing = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if not missing:
        return
    report(f"docker: installing {', '.join(missing)}")
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *missing)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _has(plugin: str) -> bool:
    """Whether the docker command already has this plugin."""
    name = plugin.removeprefix("docker-")
    with tempfile.TemporaryDirectory() as nothing:
        env = {**os.environ, "DOCKER_CONFIG": nothing}
        return subprocess.run(["docker", name, "version"], env=env, capture_output=True).returncode == 0


def _unpack(plugins: Mapping[str, str], store: Path) -> None:
    """Unpack plugins from packages of RELEASE, from the archives that the machine's own apt names."""
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), flags=re.MULTILINE))
    if system.get("ID") != "debian":
        raise GamedayError(f"docker has no {' and no '.join(plugins)}, and this isn't Debian. Remedy: install them")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for folder in ("lists/partial", "cache/archives/partial", "sources"):
            (here / folder).mkdir(parents=True)
        for source in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")):
            if source.suffix in (".list", ".sources") and source.exists():
                text = source.read_text().replace(system["VERSION_CODENAME"], RELEASE)
                (here / "sources" / source.name).write_text(text)
        own = ["Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={here}/sources", f"Dir::Cache={here}/cache"]
        own += [f"Dir::State::lists={here}/lists", "Acquire::Languages=none", "APT::Sandbox::User=root"]
        options = [part for setting in own for part in ("-o", setting)]
        _apt(*options, "update", cwd=here)
        _apt(*options, "download", *plugins.values(), cwd=here)
        for archive in here.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(archive), str(here / "root")], here)
        store.mkdir(parents=True, exist_ok=True)
        for plugin in plugins:
            part = store / f"{plugin}.part"
            shutil.copy2(here / "root/usr/libexec/docker/cli-plugins" / plugin, part)
            part.rename(store / plugin)


def _apt(*args: str, cwd: Path | None = None) -> None:
    _run(["apt-get", "--quiet", "--quiet", "-o", f"DPkg::Lock::Timeout={LOCK_S}", *args], cwd)


def _run(argv: Sequence[str], cwd: Path | None) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise GamedayError(f"`{' '.join(argv)}`: {e}. Remedy: mend it and repeat") from e
    if done.returncode:
        why = done.stderr.strip()[-1000:]
        raise GamedayError(f"`{' '.join(argv)}` ended with {done.returncode}. Remedy: mend it and repeat.\n{why}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m compose.engine", description=__doc__)
    parser.add_argument("what", choices=("up", "down", "clean", "status", "exec", "keep"))
    parser.add_argument("--folder", type=lambda p: Path(p).resolve(), default=State.default().engine)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, command = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :] or ["sh"]
    engine = Engine(arguments.folder)
    say = functools.partial(print, flush=True)
    try:
        match arguments.what:
            case "keep":
                return keep(engine)
            case "exec":
                line = engine.at(*command)
                os.execvpe(line[0], line, {**os.environ, **engine.env})
            case "status":
                process = engine.process
                say(f"up: pid {process.pid}, DOCKER_HOST={engine.env['DOCKER_HOST']}" if process else "down")
                return 0 if process else 3
            case what:
                getattr(engine, what)(say)
    except GamedayError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
