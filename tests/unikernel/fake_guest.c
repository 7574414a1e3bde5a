// Process 1 of a machine that does as the launcher's tests wish: the first argument in the boot message says what.
// It takes the messages apart no further than it must.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int control;
static char boot[1 << 20], line[1 << 16];
static char *words[8];

static int port(const char *name) {
    char path[300], found[64];
    for (int tries = 0; tries < 2000; tries++, usleep(1000)) {
        DIR *ports = opendir("/sys/class/virtio-ports");
        for (struct dirent *entry; ports && (entry = readdir(ports));) {
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            FILE *file = fopen(path, "r");
            if (!file) continue;
            int same = fscanf(file, "%63s", found) == 1 && !strcmp(found, name);
            fclose(file);
            if (!same) continue;
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            closedir(ports);
            int opened = open(path, O_RDWR);
            struct pollfd poll_for = {opened, POLLOUT, 0};
            while (poll(&poll_for, 1, 0) >= 0 && (poll_for.revents & POLLHUP)) usleep(1000);
            return opened;
        }
        if (ports) closedir(ports);
    }
    return -1;
}

static void put(int file, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(file, bytes, size);
        if (written <= 0) return;
        bytes += written, size -= written;
    }
}

static void say(int file, const char *text) { put(file, text, strlen(text)); }

static void tell(const char *format, long value) {
    char message[128];
    snprintf(message, sizeof message, format, value);
    strcat(message, "\n");
    say(control, message);
}

static void end(int code) {
    tell("{\"exit\":%ld}", code);
    sleep(60);  // the launcher ends the machine, once it has got what was written before
    reboot(RB_AUTOBOOT);
}

static int read_line(char *into, size_t size) {
    size_t length = 0;
    while (length < size - 1) {
        ssize_t got = read(control, into + length, 1);
        if (got < 1) { usleep(1000); continue; }
        if (into[length] == '\n') break;
        length++;
    }
    into[length] = 0;
    return length;
}

// Reads a message and answers a ping. Returns a signal's number, else 0.
static int hear(void) {
    long number;
    read_line(line, sizeof line);
    if (sscanf(line, "{\"ping\":%ld", &number) == 1) tell("{\"pong\":%ld}", number);
    if (sscanf(line, "{\"signal\":%ld", &number) == 1) return number;
    return 0;
}

static void take_words(void) {
    char *at = strstr(boot, "\"args\":[");
    char *stop = at ? strchr(at, ']') : 0;
    for (int count = 0; stop && count < 7 && (at = strchr(at + 1, '"')) && at < stop;) {
        if (at[1] == ':') continue;
        words[count++] = at + 1;
        at = strchr(at + 1, '"');
    }
    for (int each = 0; words[each]; each++) *strchr(words[each], '"') = 0;
}

// Gives eth0 the address of the boot message. The mask is that of a network of 24 bits, whatever the message says.
static void bring_up_network(void) {
    char address[16] = "";
    char *at = strstr(boot, "\"network\":{\"address\":\"");
    if (!at || sscanf(at, "\"network\":{\"address\":\"%15[0-9.]/", address) != 1) return;
    int any_socket = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in *place = (void *)&request.ifr_addr;
    place->sin_family = AF_INET;
    inet_pton(AF_INET, address, &place->sin_addr);
    ioctl(any_socket, SIOCSIFADDR, &request);
    inet_pton(AF_INET, "255.255.255.0", &place->sin_addr);
    ioctl(any_socket, SIOCSIFNETMASK, &request);
    request.ifr_flags = IFF_UP;
    ioctl(any_socket, SIOCSIFFLAGS, &request);
    close(any_socket);
}

static void cat(int in, int out, int shout) {
    struct pollfd both[] = {{control, POLLIN, 0}, {in, POLLIN, 0}};
    for (ssize_t got;;) {
        poll(both, 2, -1);
        if (both[0].revents & POLLIN) { int number = hear(); if (number) end(128 + number); }
        if (!(both[1].revents & (POLLIN | POLLHUP))) continue;
        got = read(in, line, sizeof line);
        if (got <= 0) { if (shout) { usleep(1000); continue; } return; }
        for (ssize_t each = 0; shout && each < got; each++) if (line[each] >= 'a' && line[each] <= 'z') line[each] -= 32;
        put(out, line, got);
    }
}

static void serve(const char *address, int number) {
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(number)};
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind(listening, (void *)&name, sizeof name);
    listen(listening, 16);
    snprintf(line, sizeof line, "{\"serving\":{\"address\":\"%s\",\"port\":%d}}\n", address, number);
    say(control, line);
    struct pollfd both[] = {{control, POLLIN, 0}, {listening, POLLIN, 0}};
    char last[64] = "nothing", answer[256];
    for (;;) {
        poll(both, 2, -1);
        if (both[0].revents & POLLIN) {
            if (hear()) end(0);
            if (!strncmp(line, "{\"resume\":{\"time\":", 18)) strcpy(last, "a resume");
        }
        if (both[1].revents & POLLIN) {
            int client = accept(listening, 0, 0);
            read(client, line, sizeof line);
            snprintf(answer, sizeof answer, "HTTP/1.0 200 OK\r\n\r\nheard %s\n", last);
            say(client, answer);
            close(client);
        }
    }
}

static void use_volume(void) {
    char text[4096] = "";
    mount("volume0", "/mnt", "9p", 0, "trans=virtio,version=9p2000.L");
    int in = open("/mnt/in", O_RDONLY), out = open("/mnt/out", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t got = read(in, text, sizeof text);
    int failed = out < 0 ? errno : 0;
    if (got > 0) put(out, text, got);
    close(out);
    if (words[1] && !strcmp(words[1], "replace")) {
        out = open("/mnt/new", O_WRONLY | O_CREAT, 0644);
        say(out, "replaced");
        close(out);
        rename("/mnt/new", "/mnt/in");
    }
    umount("/mnt");
    end(failed ? failed : got > 0 ? 0 : 99);
}

int main(void) {
    mount("sysfs", "/sys", "sysfs", 0, 0);
    // Says nothing to the launcher, and prints.
    if (!access("/mute", F_OK)) for (int out = port("slight.stdio");; usleep(100000)) say(out, "no hello\n");
    control = port("slight.control");
    // Before the hello: later the launcher's end may have been closed again.
    int in = port("slight.stdin"), out = port("slight.stdio"), err = port("slight.stderr");
    tell("{\"hello\":{\"at\":0.5}}", 0);
    read_line(boot, sizeof boot);
    char *whole = strdup(boot);
    bring_up_network();
    take_words();
    const char *wish = words[0] ? words[0] : "exit";
    long number = words[1] ? atol(words[1]) : 0;
    if (!strcmp(wish, "exit")) end(number);
    if (!strcmp(wish, "cat")) { cat(in, out, 0); end(number); }
    if (!strcmp(wish, "boot")) { say(out, whole); say(err, "and this on stderr\n"); end(0); }
    if (!strcmp(wish, "spew")) {
        for (long sent = 0; sent < number; sent += sizeof line) {
            for (size_t each = 0; each < sizeof line; each += 8) snprintf(line + each, 9, "%07lx\n", (sent + (long)each) / 8);
            put(out, line, sizeof line);
        }
        end(0);
    }
    if (!strcmp(wish, "serve")) serve(words[2] ? words[2] : "127.0.0.1:3000", number);
    if (!strcmp(wish, "errors")) { say(control, "{\"errors\":[\"one\",\"two\"]}\n"); end(2); }
    if (!strcmp(wish, "shout")) {
        say(control, "{\"phase\":\"entered\"}\n");
        int command = port("slight.command");
        cat(command, command, 1);
    }
    if (!strcmp(wish, "volume")) use_volume();
    // Says more than anybody needs, and hears nothing.
    if (!strcmp(wish, "flood")) for (long each = 0;; each++) tell("{\"serving\":{\"address\":\"127.0.0.1:%ld\",\"port\":9}}", 20000 + each % 10000 /* below those that other programs are given */);
    if (!strcmp(wish, "garbage")) { say(control, "\x1b[2J\n"); pause(); }
    if (!strcmp(wish, "memory")) for (volatile char *each; (each = malloc(4096)); ) *each = 1;
    if (!strcmp(wish, "signal")) {
        int got;
        say(err, "ready\n");
        while (!(got = hear())) {}
        if (number) pause();
        end(128 + got);
    }
    if (!strcmp(wish, "deaf")) pause();
    return 3;  // which is a panic: process 1 must not end
}
