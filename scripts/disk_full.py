#!/usr/bin/env python3
"""Fills the disk under a node: writes are refused, reads go on, nothing acknowledged is lost.

The data directory is a small tmpfs of its own (needs the right to mount); without that right the
size of files is limited instead, which ends a file's growth in the same place.

  scripts/disk_full.py
  scripts/disk_full.py --file-limit --policy everysec   # writes fail, and are not refused before
  scripts/disk_full.py --server 'redis-server --port {port} --dir {dir} --save "" --appendonly yes'
"""
import argparse
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from nodes import Failed, ReplyError, Server, add_server_options, run, server_command

MB = 1024 * 1024


class SmallDisk:
    """A tmpfs with ballast in it, which can be thrown off to make space."""

    def __init__(self, size_mb, may_mount):
        self.path = tempfile.mkdtemp(prefix="campaign-disk-")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", self.path]
        self.mounted = may_mount and shutil.which("mount") is not None \
            and subprocess.run(mount, capture_output=True).returncode == 0
        self.limit = None if self.mounted else size_mb * MB // 2
        self.ballast = os.path.join(self.path, "ballast")
        if self.mounted:
            with open(self.ballast, "wb") as file:
                file.write(b"\0" * (size_mb * MB // 2))
        os.mkdir(self.data())

    def data(self):
        return os.path.join(self.path, "data")

    def preexec(self):
        """Limits the size of files of the process to be started, where there is no mount."""
        if self.limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))

    def make_space(self, server):
        if self.mounted:
            os.remove(self.ballast)
        else:
            infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, infinite)
            self.limit = None

    def remove(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)
        shutil.rmtree(self.path, ignore_errors=True)


def fill(connection, written, size_mb, server):
    """Writes until a write is refused and returns the error."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        key = f"key:{len(written)}"
        # Incompressible, so that the log grows by what is written.
        value = os.urandom(16 * 1024)
        try:
            connection.call("SET", key, value)
        except ReplyError as error:
            return str(error)
        except OSError as error:
            raise Failed(f"the node went away: {error}; {server.said(10)}") from None
        written[key] = value
        if len(written) * len(value) > 4 * size_mb * MB:
            raise Failed(f"{4 * size_mb} MB fitted on a disk of {size_mb} MB")
    raise Failed("no write was refused in 120 s")


def check_reads(connection, written, when):
    for key, value in written.items():
        found = connection.call("GET", key)
        if found != value:
            raise Failed(f"{when}, {key} is {found and found[:20]!r}… ({len(written)} written)")


def is_writable(connection):
    try:
        return connection.call("SET", "after", "space") == b"OK"
    except ReplyError:
        return False


def campaign(args):
    disk = SmallDisk(args.size, not args.file_limit)
    server = Server(server_command(args, f"--fsync {args.policy} --shards 2"),
                    disk.data(), disk.preexec)
    written = {}
    try:
        server.start()
        connection = server.connect()
        error = fill(connection, written, args.size, server)
        check_reads(connection, written, "with the disk full")
        for _ in range(3):
            if is_writable(connection):
                raise Failed(f"a write was taken after the refusal «{error}»")
        disk.make_space(server)
        deadline = time.monotonic() + args.wait
        recovered = is_writable(connection)
        while not recovered and time.monotonic() < deadline:
            time.sleep(0.1)
            recovered = is_writable(connection)
        how = "by itself" if recovered else "after a restart"
        if recovered:
            written["after"] = b"space"
            check_reads(connection, written, "with space again")
            if args.policy == "everysec":
                time.sleep(2)  # what was acknowledged last may be lost before
        connection.close()
        server.kill()
        server.start()
        connection = server.connect()
        check_reads(connection, written, "after a restart")
        if not is_writable(connection):
            raise Failed("no write is taken after a restart with space on the disk")
        means = f"tmpfs of {args.size} MB" if disk.mounted else "limited file size"
        return (f"{means}: refused after {len(written)} values with «{error}»; reads went on, "
                f"all {len(written)} were there after a restart, writable again {how}")
    finally:
        server.remove()
        disk.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_options(parser)
    parser.add_argument("--size", type=int, default=48, help="MB of the disk; half is ballast")
    parser.add_argument("--policy", choices=("always", "everysec"), default="always")
    parser.add_argument("--file-limit", action="store_true",
                        help="limit the size of files even with the right to mount")
    parser.add_argument("--wait", type=float, default=5.0,
                        help="seconds for a recovery without a restart")
    args = parser.parse_args()
    run(f"disk_full ({args.policy})", lambda: campaign(args))


if __name__ == "__main__":
    main()
