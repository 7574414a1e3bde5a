/* Prints a setting that somebody else has set, and tries to set one of its own. */
#include <stdio.h>
#include <stdlib.h>

#include "configs.h"

/* Every case of the error is a text, and they share their place. */
static _Noreturn void fail(const char *doing, configs_error_t error) {
    fprintf(stderr, "%s: %.*s\n", doing, (int)error.unexpected_error.len, error.unexpected_error.ptr);
    exit(1);
}

static void print(configs_t settings, const char *key) {
    abi_bytes_t value;
    configs_error_t error;
    if (configs_get(settings, abi_string(key), &value, &error)) {
        printf("%s is %.*s\n", key, (int)value.len, (const char *)value.ptr);
        abi_bytes_free(value);
        return;
    }
    if (error.tag != CONFIGS_ERROR_NOT_FOUND) fail("get", error);
    printf("%s is not set\n", key);
    configs_error_free(error);
}

int main(void) {
    configs_t settings;
    configs_error_t error;
    if (!configs_open(abi_string("my-settings"), &settings, &error)) fail("open", error);
    print(settings, "COLOR");
    if (configs_set(settings, abi_string("GREETING"), abi_bytes("good morning"), &error)) {
        print(settings, "GREETING");
    } else {
        if (error.tag != CONFIGS_ERROR_PERMISSION_DENIED) fail("set", error);
        printf("GREETING can't be set\n");
        configs_error_free(error);
    }
    configs_drop(settings);
}
