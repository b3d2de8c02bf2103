"""A network between nodes that can be cut, one way too, and made slow and lossy. Needs root.

Each node has a network namespace. Packets between nodes come out of a TUN device of the one and go
into that of the other, through a process that drops and delays as it is told: the kernel's netem
is not there on every machine. Clients reach the nodes over a veth pair each, which is never cut.
"""
import ctypes
import fcntl
import heapq
import itertools
import multiprocessing
import os
import random
import select
import struct
import subprocess
import threading
import time

from nodes import Failed

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 9000


def is_possible():
    """Why namespaces cannot be used here; None if they can."""
    if os.geteuid() != 0:
        return "not root"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    name = f"dcprobe{os.getpid() % 10000}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "ip netns does not work"
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return None


def ip(*words, inside=None):
    words = (["ip", "netns", "exec", inside] if inside else []) + ["ip", *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")


class Network:
    """Namespaces for `count` nodes, and the switch between them."""

    def __init__(self, count, seed):
        # Several campaigns at a time have different names and addresses.
        self.number = os.getpid() % 200 + 20
        self.count, self.names = count, []
        self.tell, told = multiprocessing.Pipe()
        try:
            fds = [self.make(i) for i in range(count)]
            self.switch = multiprocessing.Process(target=run_switch, daemon=True,
                                                  args=(fds, self.number, told, seed))
            self.switch.start()
            for fd in fds:
                os.close(fd)
        except BaseException:
            self.remove()
            raise

    def host(self, i):
        return f"10.{self.number}.0.{10 + i}"

    def prefix(self, i):
        return ["ip", "netns", "exec", self.names[i]]

    def make(self, i):
        name, link = f"dc{self.number}n{i}", f"dc{self.number}v{i}"
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", link], capture_output=True)
        ip("netns", "add", name)
        self.names.append(name)
        fd = tun_in(name)
        ip("link", "set", "lo", "up", inside=name)
        ip("addr", "add", f"{self.host(i)}/24", "dev", "tun0", inside=name)
        ip("link", "set", "tun0", "mtu", MTU, "up", inside=name)
        ip("link", "add", link, "type", "veth", "peer", "name", "client", "netns", name)
        ip("addr", "add", f"10.{self.number}.{100 + i}.1/30", "dev", link)
        ip("link", "set", link, "up")
        ip("addr", "add", f"10.{self.number}.{100 + i}.2/30", "dev", "client", inside=name)
        ip("link", "set", "client", "up", inside=name)
        ip("route", "add", f"{self.host(i)}/32", "via", f"10.{self.number}.{100 + i}.2", "dev",
           link)
        return fd

    def rule(self, source, target, drop=0.0, delay=0.0):
        """Packets one way: the part that is lost, and the seconds that they take."""
        self.tell.send((source, target, drop, delay))

    def cut(self, source, target):
        self.rule(source, target, drop=1.0)

    def isolate(self, i, ways=("out", "in")):
        for other in range(self.count):
            if other != i:
                if "out" in ways:
                    self.cut(i, other)
                if "in" in ways:
                    self.cut(other, i)

    def all(self, drop=0.0, delay=0.0):
        for a, b in itertools.permutations(range(self.count), 2):
            self.rule(a, b, drop, delay)

    def heal(self):
        self.all()

    def remove(self):
        if hasattr(self, "switch"):
            self.switch.kill()
            self.switch.join()
        for i, name in enumerate(self.names):
            subprocess.run(["ip", "link", "del", f"dc{self.number}v{i}"], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def tun_in(namespace):
    """Opens a new TUN device of a namespace. A thread goes there and ends there."""
    found = []

    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/var/run/netns/{namespace}") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                return
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
        found.append(fd)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not found:
        raise Failed(f"no TUN device in namespace {namespace}")
    return found[0]


def run_switch(fds, number, told, seed):
    """Passes packets on until its parent ends."""
    rng, parent = random.Random(seed), os.getppid()
    by_address = {bytes([10, number, 0, 10 + i]): i for i in range(len(fds))}
    rules, waiting, order = {}, [], itertools.count()
    poller = select.poll()
    for fd in fds + [told.fileno()]:
        poller.register(fd, select.POLLIN)
    index = {fd: i for i, fd in enumerate(fds)}
    while os.getppid() == parent:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(waiting)
            put(fds[target], packet)
        pause = max(0, min(1.0, waiting[0][0] - now)) if waiting else 1.0
        for fd, _ in poller.poll(pause * 1000):
            if fd not in index:
                try:
                    while told.poll():
                        source, target, drop, delay = told.recv()
                        rules[source, target] = (drop, delay)
                except EOFError:
                    return
                continue
            source = index[fd]
            for _ in range(64):
                try:
                    packet = os.read(fd, MTU + 64)
                except BlockingIOError:
                    break
                target = by_address.get(packet[16:20])
                if target is None or packet[0] >> 4 != 4:
                    continue
                drop, delay = rules.get((source, target), (0.0, 0.0))
                if drop and rng.random() < drop:
                    continue
                if delay:
                    heapq.heappush(waiting, (time.monotonic() + delay, next(order), target, packet))
                else:
                    put(fds[target], packet)


def put(fd, packet):
    try:
        os.write(fd, packet)
    except OSError:
        pass  # As a network does.
