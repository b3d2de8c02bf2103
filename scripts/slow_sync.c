/* Preloaded into a server, makes its disk slower: every fdatasync and fsync takes some more
 * microseconds, as many as SLOW_SYNC_US says. Compiled and used by slow_syncs() in nodes.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slowly(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *delay = getenv("SLOW_SYNC_US");
    if (delay) {
        usleep(strtoul(delay, NULL, 10));
    }
    return real(file);
}

int fdatasync(int file) { return slowly("fdatasync", file); }

int fsync(int file) { return slowly("fsync", file); }
