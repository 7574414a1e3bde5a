/* The compiled form of store.py: one wasmtime store, the instances in it, and the calls that are under way.
 *
 * It does what slight_py/store.py does, class for class and method for method, with the same names; the comments there
 * say why. The functions of wasmtime's C API are handed over as addresses (`setup`), so nothing is linked against.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#define MAX_DEPTH 16
#define MAX_PARAMS 16
#define EXPORTS 8
#define MEMORY 3 /* the kind of an export that is a memory */
#define EXPORT_BITS 20
#define HARMLESS ((size_t)1 << 31)

/* wasmtime/val.h and wasmtime/extern.h; `setup` compares the sizes with those in store.py. */
typedef struct {
    uint8_t kind; /* i32, i64, f32, f64 in this order */
    union {
        uint32_t i32;
        uint64_t i64;
        float f32;
        double f64;
        uint64_t words[3];
    } of;
} Val;

typedef struct {
    uint8_t kind; /* func 0, global 1, table 2, memory 3 */
    uint64_t of[3];
} Extern;

/* wasmtime/val.h: a value as compiled code has it. */
typedef union {
    uint32_t i32;
    uint64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
} ValRaw;

typedef struct {
    bool (*callback)(void *);
    void *env;
    void (*finalizer)(void *);
} Continuation;

/* The C API. */
#define FUNCTIONS(X)                                                                                                  \
    X(store_new, void *, (void *, void *, void *))                                                                    \
    X(store_context, void *, (void *))                                                                                \
    X(store_delete, void, (void *))                                                                                   \
    X(store_limiter, void, (void *, int64_t, int64_t, int64_t, int64_t, int64_t))                                     \
    X(context_set_epoch_deadline, void, (void *, uint64_t))                                                           \
    X(context_epoch_deadline_async_yield_and_update, void, (void *, uint64_t))                                        \
    X(context_get_data, void *, (void *))                                                                             \
    X(error_delete, void, (void *))                                                                                   \
    X(caller_context, void *, (void *))                                                                               \
    X(caller_export_get, bool, (void *, const char *, size_t, Extern *))                                              \
    X(instance_pre_instantiate_async, void *, (void *, void *, void *, void *, void *))                               \
    X(instance_export_get, bool, (void *, void *, const char *, size_t, Extern *))                                    \
    X(instance_export_nth, bool, (void *, void *, size_t, char **, size_t *, Extern *))                               \
    X(linker_define, void *, (void *, void *, const char *, size_t, const char *, size_t, const Extern *))            \
    X(linker_instantiate_async, void *, (void *, void *, void *, void *, void *, void *))                             \
    X(linker_get, bool, (void *, void *, const char *, size_t, const char *, size_t, Extern *))                       \
    X(func_call_async, void *, (void *, void *, const Val *, size_t, Val *, size_t, void *, void *))                  \
    X(func_call_unchecked, void *, (void *, void *, ValRaw *, size_t, void *))                                        \
    X(call_future_poll, bool, (void *))                                                                               \
    X(call_future_delete, void, (void *))                                                                             \
    X(memory_data, uint8_t *, (void *, void *))                                                                       \
    X(memory_data_size, size_t, (void *, void *))

#define DECLARE(name, result, arguments) static result(*wasmtime_##name) arguments;
FUNCTIONS(DECLARE)

enum { DONE, YIELDED, CALLED, REFUSED, TRAPPED, FAILED };

struct Store;

typedef struct {
    struct Store *store;
    int depth;
    bool guarded;
    bool answered;
    bool in_turn;
    bool ended;
    void *future;
    /* The calls still to be made: `count` times the arguments of one, and the results of those that were made. */
    uint64_t function[2];
    Val *args;
    Py_ssize_t params, count, made;
    char result;
    uint8_t result_kind;
    Val one_result;
    Val *results;
    /* The import that the guest waits for. */
    bool imported;
    size_t import_number;
    const Val *import_args;
    size_t import_count;
    Val *import_results;
} Activation;

typedef struct Store {
    PyObject_HEAD
    void *store, *context;
    void *driver;
    Extern in_turn;
    bool has_in_turn;
    uint64_t instance[2];
    uint64_t (*further)[2]; /* the instances after the first */
    Py_ssize_t further_count;
    void *trap, *error;
    Extern memory, callers_memory;
    bool has_memory, has_callers_memory;
    PyObject *view;
    uint8_t *view_data;
    Py_ssize_t view_size;
    int depth;
    int state; /* DONE, or what ended the instance */
    size_t refused;
    struct {
        Py_ssize_t index;
        Extern found;
    } exports[EXPORTS];
    int exports_used;
    Activation stack[MAX_DEPTH];
} Store;

/* On the guest's stack: no Python here. */

static void advance(Activation *each);

static bool resumed(void *env)
{
    Activation *each = env;
    Store *self = each->store;
    if (self->state == DONE && each->depth + 1 < self->depth) {
        advance(&self->stack[each->depth + 1]);
        return false;
    }
    return self->state == DONE && each->answered;
}

static void entered(void *env, void *caller, const Val *args, size_t nargs, Val *results, size_t nresults, void **trap,
                    Continuation *continuation)
{
    (void)nresults;
    (void)trap;
    Store *self = wasmtime_context_get_data(wasmtime_caller_context(caller));
    Activation *each = &self->stack[self->depth - 1];
    size_t number = (size_t)env & ~HARMLESS;
    each->answered = false;
    if (!self->has_memory)
        self->has_callers_memory =
            wasmtime_caller_export_get(caller, "memory", 6, &self->callers_memory) && self->callers_memory.kind == MEMORY;
    if (each->guarded && number == (size_t)env) {
        self->state = REFUSED;
        self->refused = number;
    } else {
        each->imported = true;
        each->import_number = number;
        each->import_args = args;
        each->import_count = nargs;
        each->import_results = results;
    }
    continuation->callback = resumed;
    continuation->env = each;
    continuation->finalizer = NULL;
}

/* A host's function that a guest never sees: makes all calls of the innermost activation, one after the other. Each of
 * them would have a future, and be entered on the guest's stack by itself, which takes longer than to allocate a text. */
static void *make_in_turn(void *env, void *caller, ValRaw *args_and_results, size_t length)
{
    (void)env;
    (void)args_and_results;
    (void)length;
    void *context = wasmtime_caller_context(caller);
    Store *self = wasmtime_context_get_data(context);
    Activation *each = &self->stack[self->depth - 1];
    ValRaw raw[MAX_PARAMS];
    size_t slots = each->params > 0 ? (size_t)each->params : 1;
    for (; each->made < each->count; each->made++) {
        const Val *args = each->args + each->made * each->params;
        memset(raw, 0, sizeof(ValRaw) * slots);
        for (Py_ssize_t n = 0; n < each->params; n++)
            memcpy(&raw[n], &args[n].of, args[n].kind == 0 || args[n].kind == 2 ? 4 : 8);
        void *trap = NULL, *error = wasmtime_func_call_unchecked(context, each->function, raw, slots, &trap);
        if (each->ended && error != NULL) {
            wasmtime_error_delete(error); /* it says that the future is being deleted, which `pop` knows */
            break;
        }
        if (trap != NULL || error != NULL) {
            self->trap = trap;
            self->error = error;
            break;
        }
        if (each->result) {
            Val *result = &each->results[each->made];
            result->kind = each->result_kind;
            memcpy(&result->of, &raw[0], 8);
        }
    }
    return NULL;
}

/* Finds that function; false where it can't be had, and the calls are made one by one. */
static bool find_in_turn(Store *self)
{
    if (!self->has_in_turn && self->driver != NULL)
        self->has_in_turn = wasmtime_linker_get(self->driver, self->context, "", 0, "", 0, &self->in_turn);
    return self->has_in_turn;
}

static void advance(Activation *each)
{
    Store *self = each->store;
    while (self->state == DONE) {
        if (each->future == NULL) {
            if (each->made == each->count)
                return;
            self->trap = self->error = NULL;
            each->in_turn = each->guarded && each->count - each->made > 1 && find_in_turn(self);
            const Val *args = each->args + each->made * each->params;
            if (each->in_turn)
                each->future = wasmtime_func_call_async(self->context, self->in_turn.of, NULL, 0, NULL, 0, &self->trap,
                                                        &self->error);
            else
                each->future = wasmtime_func_call_async(self->context, each->function, args, (size_t)each->params,
                                                        &each->one_result, each->result ? 1 : 0, &self->trap,
                                                        &self->error);
        }
        if (!wasmtime_call_future_poll(each->future))
            return;
        wasmtime_call_future_delete(each->future);
        each->future = NULL;
        if (self->trap != NULL || self->error != NULL) {
            self->state = self->trap != NULL ? TRAPPED : FAILED;
            return;
        }
        if (!each->in_turn && each->made < each->count) {
            if (each->result)
                each->results[each->made] = each->one_result;
            each->made++;
        }
    }
}

/* Values. */

static int kind_or_none(char letter)
{
    switch (letter) {
    case 'i':
        return 0;
    case 'I':
        return 1;
    case 'f':
        return 2;
    case 'd':
        return 3;
    }
    return -1;
}

static int kind_of(char letter)
{
    int kind = kind_or_none(letter);
    if (kind < 0)
        PyErr_Format(PyExc_ValueError, "'%c' is not a type", letter);
    return kind;
}

static int to_val(Val *val, char letter, PyObject *value)
{
    int kind = kind_of(letter);
    if (kind < 0)
        return -1;
    val->kind = (uint8_t)kind;
    if (kind < 2) {
        unsigned long long number = PyLong_AsUnsignedLongLong(value);
        if (number == (unsigned long long)-1 && PyErr_Occurred())
            return -1;
        if (kind == 0 && number > UINT32_MAX) {
            PyErr_SetString(PyExc_OverflowError, "the number does not fit in an i32");
            return -1;
        }
        if (kind == 0)
            val->of.i32 = (uint32_t)number;
        else
            val->of.i64 = number;
        return 0;
    }
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred())
        return -1;
    if (kind == 2)
        val->of.f32 = (float)number;
    else
        val->of.f64 = number;
    return 0;
}

static PyObject *from_val(const Val *val)
{
    switch (val->kind) {
    case 0:
        return PyLong_FromUnsignedLong(val->of.i32);
    case 1:
        return PyLong_FromUnsignedLongLong(val->of.i64);
    case 2:
        return PyFloat_FromDouble((double)val->of.f32);
    case 3:
        return PyFloat_FromDouble(val->of.f64);
    }
    PyErr_SetString(PyExc_ValueError, "a value of a type that no interface has");
    return NULL;
}

/* The store. */

static PyObject *Store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"engine", "memory", "table_elements", "driver", NULL};
    unsigned long long engine, driver;
    long long memory, elements;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KLLK", names, &engine, &memory, &elements, &driver))
        return NULL;
    Store *self = (Store *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    for (int n = 0; n < MAX_DEPTH; n++) {
        self->stack[n].store = self;
        self->stack[n].depth = n;
    }
    self->store = wasmtime_store_new((void *)(uintptr_t)engine, self, NULL);
    self->context = wasmtime_store_context(self->store);
    self->driver = (void *)(uintptr_t)driver;
    wasmtime_store_limiter(self->store, memory, elements, -1, -1, -1);
    wasmtime_context_epoch_deadline_async_yield_and_update(self->context, 1);
    wasmtime_context_set_epoch_deadline(self->context, 1);
    return (PyObject *)self;
}

static int push(Store *self, bool guarded, Py_ssize_t params, Py_ssize_t count, char result)
{
    if (self->depth == MAX_DEPTH) {
        PyErr_SetString(PyExc_RecursionError, "calls are nested too deep");
        return -1;
    }
    Activation *each = &self->stack[self->depth];
    each->guarded = guarded;
    each->answered = each->imported = each->in_turn = each->ended = false;
    each->future = NULL;
    each->params = params;
    each->count = count;
    each->made = 0;
    each->result = result;
    each->result_kind = (uint8_t)kind_or_none(result);
    Py_ssize_t vals = count * (params + 1);
    each->args = PyMem_Malloc(sizeof(Val) * (size_t)(vals ? vals : 1));
    if (each->args == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    each->results = each->args + count * params;
    self->depth++;
    return 0;
}

static PyObject *Store_instantiate(Store *self, PyObject *pre)
{
    void *pointer = PyLong_AsVoidPtr(pre);
    if (pointer == NULL || push(self, false, 0, 0, 0) < 0)
        return NULL;
    self->trap = self->error = NULL;
    self->stack[self->depth - 1].future =
        wasmtime_instance_pre_instantiate_async(pointer, self->context, self->instance, &self->trap, &self->error);
    Py_RETURN_NONE;
}

static PyObject *Store_instantiate_further(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "instantiate_further() takes 2 arguments");
    void *linker = PyLong_AsVoidPtr(args[0]), *module = PyLong_AsVoidPtr(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (self->depth > 0)
        return PyErr_Format(PyExc_RuntimeError, "a call is under way");
    uint64_t(*further)[2] =
        PyMem_Realloc(self->further, sizeof(*further) * (size_t)(self->further_count + 1));
    if (further == NULL)
        return PyErr_NoMemory();
    self->further = further;
    if (push(self, false, 0, 0, 0) < 0)
        return NULL;
    self->trap = self->error = NULL;
    self->stack[self->depth - 1].future = wasmtime_linker_instantiate_async(
        linker, self->context, module, self->further[self->further_count++], &self->trap, &self->error);
    Py_RETURN_NONE;
}

static uint64_t *instance_at(Store *self, Py_ssize_t number)
{
    if (number < 0 || number > self->further_count)
        return NULL;
    return number == 0 ? self->instance : self->further[number - 1];
}

static bool export_at(Store *self, Py_ssize_t index, Extern *found)
{
    uint64_t *instance = instance_at(self, index >> EXPORT_BITS);
    char *name;
    size_t length;
    return instance != NULL && wasmtime_instance_export_nth(self->context, instance,
                                                            (size_t)(index & ((1 << EXPORT_BITS) - 1)), &name, &length,
                                                            found);
}

static Extern *find(Store *self, Py_ssize_t index)
{
    for (int n = 0; n < self->exports_used; n++)
        if (self->exports[n].index == index)
            return &self->exports[n].found;
    int at = self->exports_used < EXPORTS ? self->exports_used++ : EXPORTS - 1;
    self->exports[at].index = index;
    if (!export_at(self, index, &self->exports[at].found)) {
        self->exports[at].index = -1;
        PyErr_Format(PyExc_IndexError, "there is no export %zd", index);
        return NULL;
    }
    return &self->exports[at].found;
}

static PyObject *Store_set_memory(Store *self, PyObject *index)
{
    Py_ssize_t number = PyLong_AsSsize_t(index);
    Extern *found = number < 0 ? NULL : find(self, number);
    if (found == NULL)
        return NULL;
    self->memory = *found;
    self->has_memory = true;
    Py_RETURN_NONE;
}

static PyObject *Store_define(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5)
        return PyErr_Format(PyExc_TypeError, "define() takes 5 arguments");
    void *linker = PyLong_AsVoidPtr(args[0]);
    Py_ssize_t module_length, name_length, export_length, instance = PyLong_AsSsize_t(args[3]);
    const char *module = PyUnicode_AsUTF8AndSize(args[1], &module_length);
    const char *name = PyUnicode_AsUTF8AndSize(args[2], &name_length);
    const char *export = PyUnicode_AsUTF8AndSize(args[4], &export_length);
    if (PyErr_Occurred())
        return NULL;
    Extern found;
    uint64_t *from = instance_at(self, instance);
    if (from == NULL || !wasmtime_instance_export_get(self->context, from, export, (size_t)export_length, &found))
        return PyErr_Format(PyExc_IndexError, "there is no export %U", args[4]);
    return PyLong_FromVoidPtr(wasmtime_linker_define(linker, self->context, module, (size_t)module_length, name,
                                                     (size_t)name_length, &found));
}

static PyObject *Store_memory_at(Store *self, PyObject *index)
{
    Py_ssize_t number = PyLong_AsSsize_t(index);
    Extern *found = PyErr_Occurred() ? NULL : find(self, number);
    if (found == NULL)
        return NULL;
    if (found->kind != MEMORY)
        return PyErr_Format(PyExc_IndexError, "the export %zd is no memory", number);
    return PyMemoryView_FromMemory((char *)wasmtime_memory_data(self->context, found->of),
                                   (Py_ssize_t)wasmtime_memory_data_size(self->context, found->of), PyBUF_WRITE);
}

static PyObject *Store_begin(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5)
        return PyErr_Format(PyExc_TypeError, "begin() takes 5 arguments");
    Py_ssize_t index = PyLong_AsSsize_t(args[0]), params, results;
    const char *letters = PyUnicode_AsUTF8AndSize(args[1], &params);
    const char *result = PyUnicode_AsUTF8AndSize(args[2], &results);
    PyObject *calls = PySequence_Fast(args[3], "calls must be a sequence");
    if (PyErr_Occurred() || params > MAX_PARAMS) {
        Py_XDECREF(calls);
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a function with %zd parameters", params);
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(calls);
    Extern *found = find(self, index);
    if (found == NULL || push(self, PyObject_IsTrue(args[4]) == 1, params, count, results ? result[0] : 0) < 0) {
        Py_DECREF(calls);
        return NULL;
    }
    if (self->depth == 1)
        /* The store may have waited since its last call. */
        wasmtime_context_set_epoch_deadline(self->context, 1);
    Activation *each = &self->stack[self->depth - 1];
    each->function[0] = found->of[0];
    each->function[1] = found->of[1];
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *values = PySequence_Fast(PySequence_Fast_GET_ITEM(calls, n), "arguments must be a sequence");
        bool fits = values != NULL && PySequence_Fast_GET_SIZE(values) == params;
        for (Py_ssize_t k = 0; fits && k < params; k++)
            fits = to_val(&each->args[n * params + k], letters[k], PySequence_Fast_GET_ITEM(values, k)) == 0;
        Py_XDECREF(values);
        if (!fits) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_TypeError, "the function takes %zd arguments", params);
            Py_DECREF(calls);
            self->depth--;
            PyMem_Free(each->args);
            each->args = NULL;
            return NULL;
        }
    }
    Py_DECREF(calls);
    Py_RETURN_NONE;
}

/* What `advance` says. */
static int run(Store *self)
{
    Py_BEGIN_ALLOW_THREADS
    advance(&self->stack[0]);
    Py_END_ALLOW_THREADS
    Activation *top = &self->stack[self->depth - 1];
    if (self->state == DONE && (top->future != NULL || top->made < top->count))
        return top->imported ? CALLED : YIELDED;
    return self->state;
}

static PyObject *Store_advance(Store *self, PyObject *Py_UNUSED(none))
{
    if (self->depth == 0)
        return PyErr_Format(PyExc_RuntimeError, "there is no call to advance");
    return PyLong_FromLong(run(self));
}

static PyObject *Store_imported(Store *self, PyObject *Py_UNUSED(none))
{
    Activation *top = &self->stack[self->depth - 1];
    PyObject *flat = PyTuple_New((Py_ssize_t)top->import_count);
    for (size_t n = 0; flat != NULL && n < top->import_count; n++) {
        PyObject *value = from_val(&top->import_args[n]);
        if (value == NULL)
            Py_CLEAR(flat);
        else
            PyTuple_SET_ITEM(flat, (Py_ssize_t)n, value);
    }
    top->imported = false;
    return flat == NULL ? NULL : Py_BuildValue("nN", (Py_ssize_t)top->import_number, flat);
}

static PyObject *Store_answer(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError, "answer() takes 2 arguments");
    Activation *top = &self->stack[self->depth - 1];
    const char *letter = PyUnicode_AsUTF8(args[0]);
    if (letter == NULL || (letter[0] && to_val(top->import_results, letter[0], args[1]) < 0))
        return NULL;
    top->answered = true;
    Py_RETURN_NONE;
}

/* `answer` and `advance` in one step. */
static PyObject *Store_go_on(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (self->depth == 0)
        return PyErr_Format(PyExc_RuntimeError, "there is no call to advance");
    PyObject *answered = Store_answer(self, args, nargs);
    if (answered == NULL)
        return NULL;
    Py_DECREF(answered);
    return PyLong_FromLong(run(self));
}

static PyObject *Store_renew(Store *self, PyObject *Py_UNUSED(none))
{
    if (self->context != NULL)
        wasmtime_context_set_epoch_deadline(self->context, 1);
    Py_RETURN_NONE;
}

static PyObject *Store_results(Store *self, PyObject *Py_UNUSED(none))
{
    Activation *top = &self->stack[self->depth - 1];
    PyObject *results = PyList_New(top->made);
    for (Py_ssize_t n = 0; results != NULL && n < top->made; n++) {
        PyObject *value = top->result ? from_val(&top->results[n]) : Py_NewRef(Py_None);
        if (value == NULL)
            Py_CLEAR(results);
        else
            PyList_SET_ITEM(results, n, value);
    }
    return results;
}

static void pop(Store *self)
{
    Activation *top = &self->stack[--self->depth];
    top->ended = true;
    if (top->future != NULL) {
        wasmtime_call_future_delete(top->future);
        top->future = NULL;
    }
    PyMem_Free(top->args);
    top->args = NULL;
}

/* The usual course of a call, in one step. */

static PyObject *Store_start(Store *self, PyObject *pre)
{
    PyObject *begun = Store_instantiate(self, pre);
    if (begun == NULL)
        return NULL;
    Py_DECREF(begun);
    return PyLong_FromLong(run(self));
}

static PyObject *Store_call(Store *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *begun = Store_begin(self, args, nargs);
    if (begun == NULL)
        return NULL;
    Py_DECREF(begun);
    int state = run(self);
    if (state != DONE)
        return PyLong_FromLong(state);
    PyObject *results = Store_results(self, NULL);
    pop(self);
    return results;
}

static PyObject *Store_end(Store *self, PyObject *Py_UNUSED(none))
{
    if (self->depth > 0)
        pop(self);
    Py_RETURN_NONE;
}

static PyObject *Store_failure(Store *self, PyObject *Py_UNUSED(none))
{
    void *pointer = self->state == TRAPPED ? self->trap : self->state == FAILED ? self->error : (void *)self->refused;
    self->trap = self->error = NULL;
    return PyLong_FromVoidPtr(pointer);
}

static PyObject *Store_memory(Store *self, void *Py_UNUSED(closure))
{
    if (!self->has_memory)
        Py_RETURN_NONE;
    uint8_t *data = wasmtime_memory_data(self->context, self->memory.of);
    Py_ssize_t size = (Py_ssize_t)wasmtime_memory_data_size(self->context, self->memory.of);
    if (self->view == NULL || data != self->view_data || size != self->view_size) {
        PyObject *view = PyMemoryView_FromMemory((char *)data, size, PyBUF_WRITE);
        if (view == NULL)
            return NULL;
        Py_XSETREF(self->view, view);
        self->view_data = data;
        self->view_size = size;
    }
    return Py_NewRef(self->view);
}

static PyObject *Store_callers_memory(Store *self, void *Py_UNUSED(closure))
{
    if (!self->has_callers_memory)
        Py_RETURN_NONE;
    return PyMemoryView_FromMemory((char *)wasmtime_memory_data(self->context, self->callers_memory.of),
                                   (Py_ssize_t)wasmtime_memory_data_size(self->context, self->callers_memory.of),
                                   PyBUF_WRITE);
}

static PyObject *Store_close(Store *self, PyObject *Py_UNUSED(none))
{
    while (self->depth > 0)
        pop(self);
    if (self->store != NULL) {
        wasmtime_store_delete(self->store);
        self->store = self->context = NULL;
        self->exports_used = 0;
        PyMem_Free(self->further);
        self->further = NULL;
        self->further_count = -1;
        self->has_memory = self->has_callers_memory = false;
        Py_CLEAR(self->view);
    }
    Py_RETURN_NONE;
}

static void Store_dealloc(Store *self)
{
    /* A store that nobody closed may have a call under way: it is left alone. */
    Py_XDECREF(self->view);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef Store_methods[] = {
    {"instantiate", (PyCFunction)Store_instantiate, METH_O, NULL},
    {"instantiate_further", (PyCFunction)(void (*)(void))Store_instantiate_further, METH_FASTCALL, NULL},
    {"define", (PyCFunction)(void (*)(void))Store_define, METH_FASTCALL, NULL},
    {"memory_at", (PyCFunction)Store_memory_at, METH_O, NULL},
    {"set_memory", (PyCFunction)Store_set_memory, METH_O, NULL},
    {"begin", (PyCFunction)(void (*)(void))Store_begin, METH_FASTCALL, NULL},
    {"start", (PyCFunction)Store_start, METH_O, NULL},
    {"call", (PyCFunction)(void (*)(void))Store_call, METH_FASTCALL, NULL},
    {"advance", (PyCFunction)Store_advance, METH_NOARGS, NULL},
    {"imported", (PyCFunction)Store_imported, METH_NOARGS, NULL},
    {"answer", (PyCFunction)(void (*)(void))Store_answer, METH_FASTCALL, NULL},
    {"go_on", (PyCFunction)(void (*)(void))Store_go_on, METH_FASTCALL, NULL},
    {"renew", (PyCFunction)Store_renew, METH_NOARGS, NULL},
    {"results", (PyCFunction)Store_results, METH_NOARGS, NULL},
    {"end", (PyCFunction)Store_end, METH_NOARGS, NULL},
    {"failure", (PyCFunction)Store_failure, METH_NOARGS, NULL},
    {"close", (PyCFunction)Store_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Store_properties[] = {
    {"memory", (getter)Store_memory, NULL, NULL, NULL},
    {"callers_memory", (getter)Store_callers_memory, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject StoreType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "slight_py._store.Store",
    .tp_basicsize = sizeof(Store),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Store_new,
    .tp_dealloc = (destructor)Store_dealloc,
    .tp_methods = Store_methods,
    .tp_getset = Store_properties,
};

/* setup(address: Callable[[str], int], val_size: int, extern_size: int) -> tuple[int, int]: takes the C API's functions,
 * whose addresses `address` gives by name; returns those of what an import and a driver are defined with. */
static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *address;
    Py_ssize_t val_size, extern_size;
    if (!PyArg_ParseTuple(args, "Onn", &address, &val_size, &extern_size))
        return NULL;
    if (val_size != sizeof(Val) || extern_size != sizeof(Extern))
        return PyErr_Format(PyExc_ImportError, "wasmtime's values have another layout");
#define TAKE(name, result, arguments)                                                                                 \
    {                                                                                                                 \
        PyObject *found = PyObject_CallFunction(address, "s", "wasmtime_" #name);                                     \
        if (found == NULL)                                                                                            \
            return NULL;                                                                                              \
        wasmtime_##name = (result(*) arguments)PyLong_AsVoidPtr(found);                                               \
        Py_DECREF(found);                                                                                             \
    }
    FUNCTIONS(TAKE)
    if (PyErr_Occurred())
        return NULL;
    return Py_BuildValue("KK", (unsigned long long)(uintptr_t)entered, (unsigned long long)(uintptr_t)make_in_turn);
}

static PyMethodDef functions[] = {
    {"setup", setup, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "slight_py._store",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__store(void)
{
    PyObject *self = PyModule_Create(&module);
    if (self == NULL || PyModule_AddType(self, &StoreType) < 0)
        Py_CLEAR(self);
    return self;
}
