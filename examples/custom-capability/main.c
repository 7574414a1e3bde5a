/* Has people greeted, and sign a guest book. */
#include <stdio.h>

#include "greeter.h"

static greeter_person_t person(const char *title, const char *name) {
    greeter_person_t made = {.name = abi_string(name)};
    if (title) made.title = (abi_option_string_t){true, abi_string(title)};
    return made;
}

static void print_error(greeter_error_t error) {
    switch (error.tag) {
    case GREETER_ERROR_NOBODY:
        puts("there is nobody to greet");
        break;
    case GREETER_ERROR_NAME_TOO_LONG:
        printf("a name has at most %u characters\n", (unsigned)error.name_too_long);
        break;
    case GREETER_ERROR_SIGNED_BEFORE:
        printf("%.*s has signed before\n", (int)error.signed_before.len, error.signed_before.ptr);
        break;
    case GREETER_ERROR_BOOK_FULL:
        puts("the book is full");
        break;
    }
    greeter_error_free(error);
}

static void greet(greeter_person_t who) {
    abi_string_t greeting;
    greeter_error_t error;
    if (!greeter_greet(who, &greeting, &error)) {
        print_error(error);
        return;
    }
    printf("%.*s\n", (int)greeting.len, greeting.ptr);
    abi_string_free(greeting);
}

static void sign(greeter_guest_book_t book, greeter_person_t who) {
    uint32_t count;
    greeter_error_t error;
    if (!greeter_guest_book_sign(book, who, &count, &error)) {
        print_error(error);
        return;
    }
    printf("signed: %u\n", (unsigned)count);
}

int main(void) {
    greeter_person_t ada = person(NULL, "Ada"), grace = person("Dr", "Grace");

    greet(ada);
    greet(grace);
    greet(person(NULL, ""));
    greet(person("The", "very, very, very, very long-named one"));

    greeter_guest_book_t book = greeter_guest_book_new();
    sign(book, ada);
    sign(book, grace);
    sign(book, ada);
    greeter_guest_book_drop(book);
    return 0;
}
