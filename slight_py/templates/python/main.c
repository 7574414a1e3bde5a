/* The guest: has everybody greeted who is named on its command line. */
#include <stdio.h>

#include "greeter.h"

static int greet(const char *name) {
    abi_string_t greeting;
    greeter_error_t error;
    if (greeter_greet(abi_string(name), &greeting, &error)) {
        printf("%.*s\n", (int)greeting.len, greeting.ptr);
        abi_string_free(greeting);
        return 0;
    }
    if (error.tag == GREETER_ERROR_NAME_TOO_LONG) {
        fprintf(stderr, "a name has at most %u characters\n", (unsigned)error.name_too_long);
    } else {
        fprintf(stderr, "there is nobody to greet\n");
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2) return greet("world");
    int failed = 0;
    for (int i = 1; i < argc; i++) failed |= greet(argv[i]);
    return failed;
}
