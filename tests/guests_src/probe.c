/* Tells what it sees, and ends, as its arguments say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void copy(FILE *from, FILE *to) {
    for (int byte; (byte = getc(from)) != EOF;) putc(byte, to);
}

int main(int argc, char **argv) {
    if (argc < 2) return 0;
    const char *what = argv[1], *about = argc > 2 ? argv[2] : "";
    if (!strcmp(what, "arguments")) {
        for (int i = 0; i < argc; i++) puts(argv[i]);
    } else if (!strcmp(what, "environment")) {
        for (char **each = environ; *each; each++) puts(*each);
    } else if (!strcmp(what, "input")) {
        copy(stdin, stdout);
    } else if (!strcmp(what, "read")) {
        FILE *file = fopen(about, "r");
        if (!file) return perror(about), 9;
        copy(file, stdout);
    } else if (!strcmp(what, "write")) {
        FILE *file = fopen(about, "w");
        if (!file) return perror(about), 9;
        fputs("from the guest\n", file);
    } else if (!strcmp(what, "sleep")) {
        fputs("sleep\n", stderr);
        sleep(60);
    } else if (!strcmp(what, "wait")) {
        fputs("wait\n", stderr);
        copy(stdin, stdout);
    } else if (!strcmp(what, "trap")) {
        __builtin_trap();
    } else if (!strcmp(what, "exit")) {
        exit(atoi(about));
    }
}
