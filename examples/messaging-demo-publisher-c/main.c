/* Publishes three orders, once somebody says that it is ready for them. With the argument `spy` it tries to read them,
 * too, which its slightfile doesn't allow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messaging.h"

/* Every case of the error is a text, and they share their place. */
static _Noreturn void fail(const char *doing, messaging_error_t error) {
    fprintf(stderr, "%s: %.*s\n", doing, (int)error.unexpected_error.len, error.unexpected_error.ptr);
    exit(1);
}

static messaging_subscription_token_t subscribe(messaging_sub_t sub, const char *topic) {
    messaging_subscription_token_t token;
    messaging_error_t error;
    if (!messaging_sub_subscribe(sub, abi_string(topic), &token, &error)) fail("subscribe", error);
    return token;
}

/* Waits for a message for as long as it takes: `receive` itself gives up after some seconds. */
static void wait_for_message(messaging_sub_t sub, messaging_subscription_token_t token) {
    abi_bytes_t message;
    messaging_error_t error;
    while (!messaging_sub_receive(sub, token, &message, &error)) {
        if (error.tag != MESSAGING_ERROR_DELIVERY_FAILED) fail("receive", error);
        messaging_error_free(error);
    }
    abi_bytes_free(message);
}

static void publish(messaging_pub_t pub, const char *message, const char *topic) {
    messaging_error_t error;
    if (!messaging_pub_publish(pub, abi_bytes(message), abi_string(topic), &error)) fail("publish", error);
}

static void expect_refusal(messaging_sub_t sub, const char *topic) {
    messaging_subscription_token_t token;
    messaging_error_t error;
    if (messaging_sub_subscribe(sub, abi_string(topic), &token, &error)) {
        fprintf(stderr, "there is no slightfile that keeps the publisher from reading %s\n", topic);
        exit(1);
    }
    if (error.tag != MESSAGING_ERROR_INSUFFICIENT_PERMISSIONS) fail("subscribe", error);
    messaging_error_free(error);
}

int main(int argc, char **argv) {
    messaging_pub_t pub;
    messaging_sub_t sub;
    messaging_error_t error;
    if (!messaging_pub_open(abi_string("shop"), &pub, &error)) fail("open", error);
    if (!messaging_sub_open(abi_string("shop"), &sub, &error)) fail("open", error);
    messaging_subscription_token_t ready = subscribe(sub, "ready");
    wait_for_message(sub, ready);
    for (int number = 1; number <= 3; number++) {
        char order[32];
        snprintf(order, sizeof order, "order %d", number);
        publish(pub, order, "orders.new");
        printf("published: %s\n", order);
    }
    if (argc > 1 && !strcmp(argv[1], "spy")) expect_refusal(sub, "orders.new");
    messaging_subscription_token_free(ready);
    messaging_pub_drop(pub);
    messaging_sub_drop(sub);
}
