/* What the engine (engine.c) and generated C (imports.c, exports.h) know of each other. */
#ifndef SLIGHT_H
#define SLIGHT_H

#include <stddef.h>
#include <stdint.h>

/* A flat WebAssembly value, by the letter of its type. */
typedef union {
    int32_t i;
    int64_t I;
    float f;
    double d;
} slot_t;

/* A function that the guest imports, with the letters of its parameters and of its result. */
typedef struct {
    void (*call)(const slot_t *in, slot_t *out);
    const char *params;
    const char *result;
} import_t;

extern const import_t slight_imports[];
extern const int slight_imports_count;

/* A module of JavaScript that the program has in it. */
typedef struct {
    const char *name;
    const char *text;
    size_t length;
} module_t;

extern const module_t slight_modules[];
extern const int slight_modules_count;

extern int slight_blocks; /* how many blocks of memory JavaScript has asked for, or was given, and has not freed */

/* Evaluates the modules, unless that was done. */
void slight_start(void);

/* Answers an exported function with the one of JavaScript that has this number. */
slot_t slight_answer(int number, const slot_t *slots, const char *params, const char *result);

#endif
