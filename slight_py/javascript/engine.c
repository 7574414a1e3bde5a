/* QuickJS as a guest of slight-py: runs the modules of JavaScript that are linked with it.
 *
 * The module `main` says what the program is: it sets `__slight.handlers`, the functions that answer exported ones by their
 * numbers, and `__slight.main`, the entry point, if there is one. An instance evaluates it when it is first asked for something.
 *
 * Modules named `app/...` that are not linked in are read from the directory `app`, if the program was given one: `slight-py
 * buildjs` finds out that way what a program is made of.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quickjs.h"
#include "slight.h"

int slight_blocks;

static JSContext *context;
static JSValue slight; /* the object `__slight` */

/* How deep JavaScript may call, in bytes of the stack. */
enum { STACK = 768 * 1024 };

/* The address that what JavaScript sees of the memory begins at: the engine takes no buffer at 0. */
enum { START = 8 };

static void print_error(JSValue error) {
    const char *text = JS_ToCString(context, error);
    fprintf(stderr, "%s\n", text ? text : "an error that can't be shown");
    JS_FreeCString(context, text);
    JSValue stack = JS_GetPropertyStr(context, error, "stack");
    if (JS_IsString(stack)) {
        text = JS_ToCString(context, stack);
        fprintf(stderr, "%s", text ? text : "");
        JS_FreeCString(context, text);
    }
    JS_FreeValue(context, stack);
}

/* Ends the program with what JavaScript has thrown. */
static _Noreturn void fail(void) {
    fflush(stdout);
    print_error(JS_GetException(context));
    exit(1);
}

static JSValue checked(JSValue value) {
    if (JS_IsException(value)) fail();
    return value;
}

/* What `__slight` has. Addresses are numbers. */

static JSValue do_memory(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc, (void)argv;
    size_t length = __builtin_wasm_memory_size(0) * 65536 - START;
    return JS_NewArrayBuffer(ctx, (uint8_t *)START, length, 0, NULL, NULL, false);
}

static JSValue do_allocate(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    int64_t size;
    if (JS_ToInt64(ctx, &size, argv[0])) return JS_EXCEPTION;
    void *block = size <= SIZE_MAX ? malloc(size ? size : 1) : NULL;
    if (!block) return JS_ThrowOutOfMemory(ctx);
    slight_blocks++;
    return JS_NewUint32(ctx, (uintptr_t)block);
}

static JSValue do_free(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    uint32_t at;
    if (JS_ToUint32(ctx, &at, argv[0])) return JS_EXCEPTION;
    free((void *)at);
    slight_blocks--;
    return JS_UNDEFINED;
}

static JSValue do_text(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    uint32_t at, length;
    if (JS_ToUint32(ctx, &at, argv[0]) || JS_ToUint32(ctx, &length, argv[1])) return JS_EXCEPTION;
    return JS_NewStringLen(ctx, (const char *)at, length);
}

static JSValue do_encode(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    size_t length;
    const char *text = JS_ToCStringLen(ctx, &length, argv[0]);
    if (!text) return JS_EXCEPTION;
    char *copy = malloc(length ? length : 1);
    if (copy) memcpy(copy, text, length);
    JS_FreeCString(ctx, text);
    if (!copy) return JS_ThrowOutOfMemory(ctx);
    slight_blocks++;
    JSValue pair = JS_NewArray(ctx);
    JS_SetPropertyUint32(ctx, pair, 0, JS_NewUint32(ctx, (uintptr_t)copy));
    JS_SetPropertyUint32(ctx, pair, 1, JS_NewUint32(ctx, length));
    return pair;
}

static int to_slot(JSContext *ctx, slot_t *slot, JSValueConst value, char letter) {
    double number;
    switch (letter) {
        case 'i': return JS_ToInt32(ctx, &slot->i, value);
        case 'I': return JS_ToBigInt64(ctx, &slot->I, value);
        case 'd': return JS_ToFloat64(ctx, &slot->d, value);
    }
    int failed = JS_ToFloat64(ctx, &number, value);
    slot->f = (float)number;
    return failed;
}

static JSValue from_slot(JSContext *ctx, slot_t slot, char letter) {
    switch (letter) {
        case 'i': return JS_NewInt32(ctx, slot.i);
        case 'I': return JS_NewBigInt64(ctx, slot.I);
        case 'f': return JS_NewFloat64(ctx, slot.f);
        case 'd': return JS_NewFloat64(ctx, slot.d);
    }
    return JS_UNDEFINED;
}

static JSValue do_call(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    int32_t number;
    if (JS_ToInt32(ctx, &number, argv[0])) return JS_EXCEPTION;
    if (number < 0 || number >= slight_imports_count) {
        return JS_ThrowTypeError(ctx, "a capability can't be asked while the program is being built");
    }
    const import_t *import = &slight_imports[number];
    slot_t in[17] = {0}, out = {0};
    for (uint32_t i = 0; import->params[i]; i++) {
        JSValue slot = JS_GetPropertyUint32(ctx, argv[1], i);
        int failed = to_slot(ctx, &in[i], slot, import->params[i]);
        JS_FreeValue(ctx, slot);
        if (failed) return JS_EXCEPTION;
    }
    import->call(in, &out);
    return from_slot(ctx, out, import->result[0]);
}

static JSValue do_print(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv, int is_error) {
    (void)this;
    FILE *file = is_error ? stderr : stdout;
    for (int i = 0; i < argc; i++) {
        size_t length;
        const char *text = JS_ToCStringLen(ctx, &length, argv[i]);
        if (!text) return JS_EXCEPTION;
        if (i) fputc(' ', file);
        fwrite(text, 1, length, file);
        JS_FreeCString(ctx, text);
    }
    fputc('\n', file);
    return JS_UNDEFINED;
}

static JSValue do_variable(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    const char *name = JS_ToCString(ctx, argv[0]);
    if (!name) return JS_EXCEPTION;
    const char *value = getenv(name);
    JS_FreeCString(ctx, name);
    return value ? JS_NewString(ctx, value) : JS_UNDEFINED;
}

static void run_jobs(void) {
    JSContext *ctx;
    int more;
    while ((more = JS_ExecutePendingJob(JS_GetRuntime(context), &ctx)) > 0) continue;
    if (more < 0) fail();
}

/* The value of a promise, once it is settled. Nothing but jobs can settle it. */
static JSValue settled(JSContext *ctx, JSValueConst value) {
    if (!JS_IsPromise(value)) return JS_DupValue(ctx, value);
    run_jobs();
    switch (JS_PromiseState(ctx, value)) {
        case JS_PROMISE_FULFILLED: return JS_PromiseResult(ctx, value);
        case JS_PROMISE_REJECTED: return JS_Throw(ctx, JS_PromiseResult(ctx, value));
        default: return JS_ThrowTypeError(ctx, "a promise is awaited that nothing is going to settle");
    }
}

static JSValue do_settled(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    (void)this, (void)argc;
    return settled(ctx, argv[0]);
}

/* Modules. */

static char *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    if (!file) return NULL;
    char *text = NULL;
    size_t room = 0;
    *length = 0;
    do {
        room = room ? 2 * room : 65536;
        text = realloc(text, room + 1);
        if (!text) break;
        *length += fread(text + *length, 1, room - *length, file);
    } while (*length == room);
    fclose(file);
    if (text) text[*length] = 0;
    return text;
}

static JSModuleDef *compiled(JSContext *ctx, const char *name, const char *text, size_t length) {
    JSValue module = JS_Eval(ctx, text, length, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(module)) return NULL;
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JS_FreeValue(ctx, module);
    return definition;
}

static JSModuleDef *load_module(JSContext *ctx, const char *name, void *opaque) {
    (void)opaque;
    JSValue loaded = JS_GetPropertyStr(ctx, slight, "loaded");
    int64_t count = 0;
    JS_GetLength(ctx, loaded, &count);
    JS_SetPropertyUint32(ctx, loaded, count, JS_NewString(ctx, name));
    JS_FreeValue(ctx, loaded);
    for (int i = 0; i < slight_modules_count; i++) {
        const module_t *module = &slight_modules[i];
        if (!strcmp(module->name, name)) return compiled(ctx, name, module->text, module->length);
    }
    if (!strncmp(name, "app/", 4)) {
        size_t length;
        char *text = read_file(name, &length);
        if (text) {
            JSModuleDef *definition = compiled(ctx, name, text, length);
            free(text);
            return definition;
        }
        JS_ThrowReferenceError(ctx, "there is no file '%s'", name + 4);
    } else if (!strncmp(name, "slight:", 7)) {
        JS_ThrowReferenceError(ctx, "there is no interface '%s'", name + 7);
    } else {
        JS_ThrowReferenceError(ctx, "'%s' is neither a file of this folder ('./file.js') nor an interface ('slight:...')", name);
    }
    return NULL;
}

/* The runtime. */

static void define(JSValue object, const char *name, JSCFunction *function, int count) {
    JS_SetPropertyStr(context, object, name, JS_NewCFunction(context, function, name, count));
}

void slight_start(void) {
    if (context) return;
    JSRuntime *runtime = JS_NewRuntime();
    context = runtime ? JS_NewContext(runtime) : NULL;
    if (!context) {
        fprintf(stderr, "there is not enough memory for JavaScript\n");
        exit(1);
    }
    JS_SetMaxStackSize(runtime, STACK);
    JS_SetModuleLoaderFunc(runtime, NULL, load_module, NULL);
    slight = JS_NewObject(context);
    JS_SetPropertyStr(context, slight, "loaded", JS_NewArray(context)); /* the names of the modules, in their order */
    JS_SetPropertyStr(context, slight, "start", JS_NewInt32(context, START));
    define(slight, "memory", do_memory, 0);
    define(slight, "allocate", do_allocate, 1);
    define(slight, "free", do_free, 1);
    define(slight, "text", do_text, 2);
    define(slight, "encode", do_encode, 1);
    define(slight, "call", do_call, 2);
    define(slight, "settled", do_settled, 1);
    define(slight, "variable", do_variable, 1);
    JSValue global = JS_GetGlobalObject(context), console = JS_NewObject(context);
    JS_SetPropertyStr(context, console, "log", JS_NewCFunctionMagic(context, do_print, "log", 1, JS_CFUNC_generic_magic, 0));
    JS_SetPropertyStr(context, console, "error", JS_NewCFunctionMagic(context, do_print, "error", 1, JS_CFUNC_generic_magic, 1));
    JS_SetPropertyStr(context, global, "console", console);
    JS_SetPropertyStr(context, global, "__slight", JS_DupValue(context, slight));
    JS_FreeValue(context, global);
    const char *program = "import 'main';";
    JSValue done = checked(JS_Eval(context, program, strlen(program), "program", JS_EVAL_TYPE_MODULE));
    JS_FreeValue(context, checked(settled(context, done)));
    JS_FreeValue(context, done);
}

int main(void) {
    slight_start();
    JSValue entry = JS_GetPropertyStr(context, slight, "main");
    if (JS_IsFunction(context, entry)) {
        JSValue done = checked(JS_Call(context, entry, JS_UNDEFINED, 0, NULL));
        JS_FreeValue(context, checked(settled(context, done)));
        JS_FreeValue(context, done);
    }
    JS_FreeValue(context, entry);
    run_jobs();
    return 0;
}

slot_t slight_answer(int number, const slot_t *slots, const char *params, const char *result) {
    slight_start();
    JSValue flat = JS_NewArray(context);
    for (uint32_t i = 0; params[i]; i++) JS_SetPropertyUint32(context, flat, i, from_slot(context, slots[i], params[i]));
    JSValue handlers = JS_GetPropertyStr(context, slight, "handlers");
    JSValue handler = JS_GetPropertyUint32(context, handlers, number);
    JSValue answer = JS_Call(context, handler, JS_UNDEFINED, 1, &flat);
    slot_t out = {0};
    if (JS_IsException(answer) || (result[0] && to_slot(context, &out, answer, result[0]))) {
        fflush(stdout);
        print_error(JS_GetException(context));
        fflush(stderr);
        __builtin_trap();
    }
    JS_FreeValue(context, answer);
    JS_FreeValue(context, handler);
    JS_FreeValue(context, handlers);
    JS_FreeValue(context, flat);
    fflush(stdout);
    return out;
}

/* The binary interface asks this of a guest. */

__attribute__((export_name("canonical_abi_realloc")))
void *canonical_abi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old_size, (void)align;
    void *block = realloc(old, size ? size : 1);
    if (!block) __builtin_trap();
    if (!old) slight_blocks++;
    return block;
}

__attribute__((export_name("canonical_abi_free")))
void canonical_abi_free(void *block, size_t size, size_t align) {
    (void)align;
    if (!size) return;
    free(block);
    slight_blocks--;
}
