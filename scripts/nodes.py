"""What the campaigns share: servers to start, a RESP connection, figures of a process.

Standard library only. A server is started from a command line with {port} and {dir} filled in,
so that the same campaign can be tried on a real redis-server, to see that it can tell.
"""
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NODE = "{binary} --port {port} --direct-port 0 --http-port 0 --data-dir {dir} {flags}"


class Failed(Exception):
    """What a campaign was to show does not hold."""


class ReplyError(Exception):
    """An error reply."""


class Connection:
    """A RESP2 connection that blocks; replies are bytes, int, None, list or ReplyError."""

    def __init__(self, port, timeout=30, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        """Sends commands, each a tuple of arguments, in one write."""
        self.socket.sendall(b"".join(encode(command) for command in commands))

    def read(self):
        """Reads one reply; an error reply is returned, not raised."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            body = self.file.read(int(rest) + 2)
            if len(body) != int(rest) + 2:
                raise ConnectionError("the server closed the connection")
            return body[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise Failed(f"no RESP reply: {line!r}")

    def call(self, *arguments):
        """Sends one command and returns its reply; an error reply is raised."""
        self.send(arguments)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def close(self):
        self.file.close()
        self.socket.close()


def encode(arguments):
    """Returns a command as bytes on the wire."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if not isinstance(argument, bytes):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class Server:
    """A server on a directory of its own; the directory outlives kills and restarts."""

    def __init__(self, command, directory=None, preexec=None):
        self.command = command
        self.directory = directory or tempfile.mkdtemp(prefix="campaign-")
        self.own_directory = directory is None
        self.log = tempfile.mktemp(prefix="campaign-", suffix=".log")
        self.preexec = preexec
        self.process = None
        self.port = None

    def start(self, limit=60):
        """Starts the process and waits until it answers PING; returns the seconds it took."""
        self.port = free_port()
        words = shlex.split(self.command.format(port=self.port, dir=self.directory))
        started = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=self.preexec)
        while time.monotonic() < started + limit:
            try:
                connection = Connection(self.port, 5)
                if connection.call("PING") == b"PONG":
                    connection.close()
                    return time.monotonic() - started
            except (OSError, ReplyError):
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise Failed(f"the server did not answer PING in {limit} s; it said:\n{self.said()}")

    def connect(self, timeout=30):
        return Connection(self.port, timeout)

    def kill(self):
        """Ends the process at once, as a crash would."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def terminate(self, limit=30):
        """Asks the process to stop and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit)

    def rss(self):
        """Resident bytes of the process."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0

    def said(self, lines=30):
        try:
            return "\n".join(open(self.log, errors="replace").read().splitlines()[-lines:])
        except OSError:
            return ""

    def remove(self):
        """Ends the process and removes what it wrote."""
        if self.is_running():
            self.kill()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if os.path.exists(self.log):
            os.remove(self.log)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def add_server_options(parser):
    """Adds --node and --server, which say what is tested."""
    default = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "target")),
                           "debug", "distcache-node")
    parser.add_argument("--node", default=default, help="the distcache-node to test")
    parser.add_argument("--server", metavar="COMMAND",
                        help="another server: a command with {port} and {dir}")


def server_command(args, flags):
    """The command line of the server under test; flags are our node's own."""
    if args.server:
        return args.server
    if not os.path.exists(args.node):
        sys.exit(f"{args.node} is not there: cargo build --workspace, or --node PATH")
    return NODE.replace("{binary}", shlex.quote(args.node)).replace("{flags}", flags)


@contextlib.contextmanager
def slow_syncs(milliseconds):
    """What to put before a server's command line so that its syncs take so much longer."""
    with tempfile.TemporaryDirectory(prefix="slow-sync-") as directory:
        library = os.path.join(directory, "slow_sync.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library,
                        os.path.join(HERE, "slow_sync.c"), "-ldl"], check=True)
        yield f"env LD_PRELOAD={library} SLOW_SYNC_US={int(milliseconds * 1000)}"


def run(name, campaign):
    """Runs a campaign and turns its failure into one line and exit code 1."""
    started = time.monotonic()
    try:
        text = campaign()
    except Failed as failed:
        print(f"{name}: FAILED: {failed}", file=sys.stderr)
        sys.exit(1)
    print(f"{name}: {text} ({time.monotonic() - started:.0f} s)")
