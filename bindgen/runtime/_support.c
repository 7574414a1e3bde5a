/* What `Lift` and `Lower` of bindgen/runtime do most often, in C, with the same names.
 *
 * It knows only how things go well. Whatever is out of the ordinary, above all what a guest got wrong, is given to the
 * method of the Python class, which decides and has the messages: so a method here either does all of its work, every
 * check included, or has done nothing yet when it gives up (`in_python`).
 *
 * Each class is there twice: `Lift` and `Lower` for the interface of 2022, `ComponentLift` and `ComponentLower`, derived
 * from them, for that of components, bindgen/runtime/component.py. What differs is asked of `component` and `wide`.
 *
 * The guest's memory is an object with a buffer. It is held by reference, and its buffer for the length of one method,
 * so whoever owns it may release it in between.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

/* Of bindgen/runtime, handed over by `setup`. */
static PyObject *python_lift, *python_lower, *memory_of;

/* Of bindgen/runtime/component.py, handed over by `setup_component`. */
static PyObject *component_lift, *component_lower, *encode;
static long long text_cost, element_cost, limit, piece;

/* Names of attributes. */
static PyObject *memory_name, *reused_name, *encoding_name, *handles_name, *get_name, *take_name, *add_name;

/* What is being lifted, by default. */
static PyObject *result_name;

/* Addresses, lengths and sizes from here on are for Python to judge: up to it, no sum of two wraps. */
#define MOST ((uint64_t)1 << 62)

static bool to_number(PyObject *value, uint64_t *number)
{
    if (!PyLong_Check(value))
        return false;
    *number = PyLong_AsUnsignedLongLong(value);
    if (*number == (uint64_t)-1 && PyErr_Occurred())
        PyErr_Clear();
    return *number < MOST;
}

static uint32_t load32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void store32(uint8_t *at, uint32_t value)
{
    for (int n = 0; n < 4; n++)
        at[n] = (uint8_t)(value >> 8 * n);
}

/* Whether `size` bytes from `pointer` lie in memory. */
static bool inside(const Py_buffer *memory, uint64_t pointer, uint64_t size)
{
    uint64_t end = (uint64_t)memory->len;
    return size <= end && pointer <= end - size;
}

static int open_memory(PyObject *memory, Py_buffer *buffer, int flags)
{
    if (memory == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "there is no memory yet");
        return -1;
    }
    return PyObject_GetBuffer(memory, buffer, flags);
}

/* The guest's memory. What goes wrong there, `memory_of` says. */
static PyObject *memory_of_guest(PyObject *guest, PyObject *where)
{
    PyObject *memory = PyObject_GetAttr(guest, memory_name);
    if (memory == NULL) {
        PyErr_Clear();
        memory = PyObject_CallFunctionObjArgs(memory_of, guest, where, NULL);
    }
    return memory;
}

/* The arguments of `__init__`, of which the first `needed` must be there. */
static int arguments(PyObject *args, PyObject *kwargs, const char *const *names, int count, int needed,
                     PyObject **found)
{
    Py_ssize_t given = PyTuple_GET_SIZE(args), at = 0;
    PyObject *name, *value;
    for (Py_ssize_t n = 0; n < given && n < count; n++)
        found[n] = PyTuple_GET_ITEM(args, n);
    bool fine = given <= count;
    while (fine && kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        int n = 0;
        while (n < count && !(PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, names[n]) == 0))
            n++;
        fine = n < count && found[n] == NULL;
        if (fine)
            found[n] = value;
    }
    for (int n = 0; n < needed; n++)
        fine = fine && found[n] != NULL;
    if (!fine)
        PyErr_SetString(PyExc_TypeError, "these are not the arguments of bindgen/runtime");
    return fine ? 0 : -1;
}

static PyObject *two_numbers(uint64_t one, uint64_t other)
{
    PyObject *first = PyLong_FromUnsignedLongLong(one), *second = PyLong_FromUnsignedLongLong(other);
    PyObject *pair = first != NULL && second != NULL ? PyTuple_Pack(2, first, second) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

/* Has the Python class's method do it. */
static PyObject *in_python(PyObject *class, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (class == NULL)
        return PyErr_Format(PyExc_RuntimeError, "setup() comes first");
    PyObject *method = PyObject_GetAttrString(class, name), *all = PyTuple_New(count + 1), *result = NULL;
    if (method != NULL && all != NULL) {
        PyTuple_SET_ITEM(all, 0, Py_NewRef(self));
        for (Py_ssize_t n = 0; n < count; n++)
            PyTuple_SET_ITEM(all, n + 1, Py_NewRef(args[n]));
        result = PyObject_CallObject(method, all);
    }
    Py_XDECREF(method);
    Py_XDECREF(all);
    return result;
}

/* Lifting. */

typedef struct {
    PyObject_HEAD
    PyObject *guest, *where, *at, *memory;
    PyObject *owned;    /* a list, or nothing */
    PyObject *encoding; /* of a component's texts */
    PyObject *lent;     /* the handles that a component lends while it goes on: a list, or nothing */
    long long left;
    char owns;
    bool component;
    bool wide; /* texts are not in UTF-8, and left to Python */
} Lift;

#define LIFT_IN_PYTHON(name) \
    in_python(self->component ? component_lift : python_lift, name, (PyObject *)self, args, nargs)

static int Lift_init(Lift *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"guest", "where", "at", "owns"};
    PyObject *given[4] = {NULL, NULL, NULL, NULL};
    if (arguments(args, kwargs, names, 4, 2, given) < 0)
        return -1;
    PyObject *guest = given[0], *where = given[1], *at = given[2];
    int owns = given[3] == NULL ? 0 : PyObject_IsTrue(given[3]);
    if (owns < 0)
        return -1;
    PyObject *owned = NULL;
    if (owns) {
        PyObject *reused = PyObject_GetAttr(guest, reused_name);
        int noted = reused == NULL ? -1 : PyObject_IsTrue(reused);
        Py_XDECREF(reused);
        if (noted < 0 || (noted && (owned = PyList_New(0)) == NULL))
            return -1;
    }
    PyObject *memory = memory_of_guest(guest, where);
    if (memory == NULL) {
        Py_XDECREF(owned);
        return -1;
    }
    Py_XSETREF(self->guest, Py_NewRef(guest));
    Py_XSETREF(self->where, Py_NewRef(where));
    Py_XSETREF(self->at, Py_NewRef(at != NULL ? at : result_name));
    Py_XSETREF(self->memory, memory);
    Py_XSETREF(self->owned, owned);
    self->owns = (char)owns;
    self->left = limit;
    return 0;
}

/* How a component's texts lie in memory. */
static PyObject *encoding_of(PyObject *guest, bool *wide)
{
    PyObject *encoding = PyObject_GetAttr(guest, encoding_name);
    if (encoding != NULL && !PyUnicode_Check(encoding)) {
        PyErr_SetString(PyExc_TypeError, "the guest's encoding is no string");
        Py_CLEAR(encoding);
    }
    if (encoding != NULL)
        *wide = PyUnicode_CompareWithASCIIString(encoding, "utf8") != 0;
    return encoding;
}

static int ComponentLift_init(Lift *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"guest", "where", "at", "lends"};
    PyObject *given[4] = {NULL, NULL, NULL, NULL};
    if (arguments(args, kwargs, names, 4, 2, given) < 0)
        return -1;
    int lends = given[3] == NULL ? 0 : PyObject_IsTrue(given[3]);
    if (lends < 0)
        return -1;
    bool wide = false;
    PyObject *encoding = encoding_of(given[0], &wide);
    PyObject *memory = encoding == NULL ? NULL : memory_of_guest(given[0], given[1]);
    PyObject *lent = lends && memory != NULL ? PyList_New(0) : NULL;
    if (memory == NULL || (lends && lent == NULL)) {
        Py_XDECREF(encoding);
        Py_XDECREF(memory);
        return -1;
    }
    Py_XSETREF(self->guest, Py_NewRef(given[0]));
    Py_XSETREF(self->where, Py_NewRef(given[1]));
    Py_XSETREF(self->at, Py_NewRef(given[2] != NULL ? given[2] : result_name));
    Py_XSETREF(self->memory, memory);
    Py_XSETREF(self->encoding, encoding);
    Py_XSETREF(self->lent, lent);
    self->left = limit;
    self->component = true;
    self->wide = wide;
    return 0;
}

/* Notes what is to be freed. */
static int own(Lift *self, uint64_t pointer, uint64_t size, int align)
{
    if (self->owned == NULL)
        return 0;
    PyObject *block = Py_BuildValue("KKi", (unsigned long long)pointer, (unsigned long long)size, align);
    int done = block == NULL ? -1 : PyList_Append(self->owned, block);
    Py_XDECREF(block);
    return done;
}

/* A text or bytes, what it counts as being taken from `left`. NULL, without an exception, where Python is to judge. */
static PyObject *copied(Lift *self, const Py_buffer *memory, bool text, uint64_t pointer, uint64_t length,
                        long long *left)
{
    if (text && self->wide)
        return NULL;
    if (length == 0 && (!self->component || inside(memory, pointer, 0)))
        return text ? PyUnicode_FromStringAndSize(NULL, 0) : PyBytes_FromStringAndSize(NULL, 0);
    if (!inside(memory, pointer, length))
        return NULL;
    long long cost = (long long)length;
    if (text && __builtin_mul_overflow(cost, text_cost, &cost))
        return NULL;
    if (cost > *left)
        return NULL;
    const char *data = (const char *)memory->buf + pointer;
    PyObject *value;
    if (text) {
        value = PyUnicode_DecodeUTF8(data, (Py_ssize_t)length, NULL);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            PyErr_Clear();
    } else
        value = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    if (value != NULL && own(self, pointer, length, 1) < 0)
        Py_CLEAR(value);
    if (value != NULL)
        *left -= cost;
    return value;
}

static PyObject *Lift_copied(Lift *self, PyObject *const *args, Py_ssize_t nargs, bool text)
{
    uint64_t pointer, length;
    PyObject *value = NULL;
    if (nargs == 2 && to_number(args[0], &pointer) && to_number(args[1], &length)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        value = copied(self, &memory, text, pointer, length, &self->left);
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON(text ? "string" : "bytes");
}

static PyObject *Lift_string(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    return Lift_copied(self, args, nargs, true);
}

static PyObject *Lift_bytes(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    return Lift_copied(self, args, nargs, false);
}

static PyObject *Lift_copied_at(Lift *self, PyObject *const *args, Py_ssize_t nargs, bool text)
{
    uint64_t at;
    PyObject *value = NULL;
    if (nargs == 1 && to_number(args[0], &at)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        if (inside(&memory, at, 8)) {
            const uint8_t *pair = (const uint8_t *)memory.buf + at;
            value = copied(self, &memory, text, load32(pair), load32(pair + 4), &self->left);
        }
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON(text ? "string_at" : "bytes_at");
}

static PyObject *Lift_string_at(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    return Lift_copied_at(self, args, nargs, true);
}

static PyObject *Lift_bytes_at(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    return Lift_copied_at(self, args, nargs, false);
}

static PyObject *Lift_pair(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t at;
    PyObject *value = NULL;
    if (nargs == 1 && to_number(args[0], &at)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        if (inside(&memory, at, 8)) {
            const uint8_t *pair = (const uint8_t *)memory.buf + at;
            value = two_numbers(load32(pair), load32(pair + 4));
        }
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON("pair");
}

/* A row of texts, or one alone where `width` is 0. */
static PyObject *row_of(Lift *self, const Py_buffer *memory, const uint8_t *at, Py_ssize_t width, long long *left)
{
    if (width == 0)
        return copied(self, memory, true, load32(at), load32(at + 4), left);
    PyObject *row = PyTuple_New(width);
    for (Py_ssize_t n = 0; row != NULL && n < width; n++, at += 8) {
        PyObject *text = copied(self, memory, true, load32(at), load32(at + 4), left);
        if (text == NULL)
            Py_CLEAR(row);
        else
            PyTuple_SET_ITEM(row, n, text);
    }
    return row;
}

/* A list of them. */
static PyObject *table_of(Lift *self, const Py_buffer *memory, Py_ssize_t width, uint64_t pointer, uint64_t length)
{
    uint64_t stride = 8 * (uint64_t)(width ? width : 1);
    if (self->component && (pointer % 4 != 0 || !inside(memory, pointer, 0)))
        return NULL;
    if (length == 0)
        return PyList_New(0);
    if (length > (uint64_t)memory->len / stride || !inside(memory, pointer, length * stride))
        return NULL;
    long long left;
    if (__builtin_mul_overflow((long long)length, element_cost, &left) || left > self->left)
        return NULL;
    left = self->left - left;
    Py_ssize_t noted = self->owned == NULL ? 0 : PyList_GET_SIZE(self->owned);
    PyObject *table = PyList_New((Py_ssize_t)length);
    if (table != NULL && own(self, pointer, length * stride, 4) < 0)
        Py_CLEAR(table);
    const uint8_t *at = (const uint8_t *)memory->buf + pointer;
    for (Py_ssize_t n = 0; table != NULL && n < (Py_ssize_t)length; n++, at += stride) {
        PyObject *row = row_of(self, memory, at, width, &left);
        if (row == NULL)
            Py_CLEAR(table);
        else
            PyList_SET_ITEM(table, n, row);
    }
    if (table != NULL)
        self->left = left;
    else if (self->owned != NULL && !PyErr_Occurred() && PyList_GET_SIZE(self->owned) > noted)
        PyList_SetSlice(self->owned, noted, PyList_GET_SIZE(self->owned), NULL);
    return table;
}

static PyObject *Lift_texts(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t pointer, length;
    PyObject *value = NULL;
    if (nargs == 2 && to_number(args[0], &pointer) && to_number(args[1], &length)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        value = table_of(self, &memory, 0, pointer, length);
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON("texts");
}

static PyObject *Lift_rows(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t width, pointer, length;
    PyObject *value = NULL;
    if (nargs == 3 && to_number(args[0], &width) && to_number(args[1], &pointer) && to_number(args[2], &length) &&
        width > 0 && width < 1024) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        value = table_of(self, &memory, (Py_ssize_t)width, pointer, length);
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON("rows");
}

static PyObject *Lift_range(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t pointer, size;
    bool fits = false;
    if (nargs == 2 && to_number(args[0], &pointer) && to_number(args[1], &size)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        fits = inside(&memory, pointer, size);
        PyBuffer_Release(&memory);
    }
    return fits ? Py_NewRef(Py_None) : LIFT_IN_PYTHON("range");
}

static PyObject *ComponentLift_area(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t pointer, size, align;
    bool fits = false;
    if (nargs == 3 && to_number(args[0], &pointer) && to_number(args[1], &size) && to_number(args[2], &align) &&
        align != 0 && pointer % align == 0) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        fits = inside(&memory, pointer, size);
        PyBuffer_Release(&memory);
    }
    return fits ? Py_NewRef(Py_None) : LIFT_IN_PYTHON("area");
}

static PyObject *Lift_tag(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t at, count;
    PyObject *value = NULL;
    if (nargs == 3 && to_number(args[0], &at) && to_number(args[1], &count)) {
        Py_buffer memory;
        if (open_memory(self->memory, &memory, PyBUF_SIMPLE) < 0)
            return NULL;
        if (inside(&memory, at, 1)) {
            uint8_t tag = ((const uint8_t *)memory.buf)[at];
            if (tag < count)
                value = PyLong_FromLong(tag);
        }
        PyBuffer_Release(&memory);
    }
    return value != NULL || PyErr_Occurred() ? value : LIFT_IN_PYTHON("tag");
}

static int Lift_traverse(Lift *self, visitproc visit, void *arg)
{
    Py_VISIT(self->guest);
    Py_VISIT(self->where);
    Py_VISIT(self->at);
    Py_VISIT(self->memory);
    Py_VISIT(self->owned);
    Py_VISIT(self->encoding);
    Py_VISIT(self->lent);
    return 0;
}

static int Lift_clear(Lift *self)
{
    Py_CLEAR(self->guest);
    Py_CLEAR(self->where);
    Py_CLEAR(self->at);
    Py_CLEAR(self->memory);
    Py_CLEAR(self->owned);
    Py_CLEAR(self->encoding);
    Py_CLEAR(self->lent);
    return 0;
}

static void Lift_dealloc(Lift *self)
{
    PyObject_GC_UnTrack(self);
    Lift_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define METHOD(class, name) {#name, (PyCFunction)(void (*)(void))class##_##name, METH_FASTCALL, NULL}
#define FIELD(class, name, flags) {#name, T_OBJECT_EX, offsetof(class, name), flags, NULL}

static PyMethodDef Lift_methods[] = {
    METHOD(Lift, string), METHOD(Lift, bytes), METHOD(Lift, string_at), METHOD(Lift, bytes_at),
    METHOD(Lift, pair),   METHOD(Lift, texts), METHOD(Lift, rows),      METHOD(Lift, range),
    METHOD(Lift, tag),    {NULL, NULL, 0, NULL},
};

static PyMemberDef Lift_members[] = {
    FIELD(Lift, guest, READONLY),
    FIELD(Lift, where, READONLY),
    FIELD(Lift, at, 0),
    FIELD(Lift, memory, READONLY),
    {"owned", T_OBJECT, offsetof(Lift, owned), READONLY, NULL},
    {"left", T_LONGLONG, offsetof(Lift, left), 0, NULL},
    {"owns", T_BOOL, offsetof(Lift, owns), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject LiftType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bindgen.runtime._support.Lift",
    .tp_basicsize = sizeof(Lift),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Lift_init,
    .tp_traverse = (traverseproc)Lift_traverse,
    .tp_clear = (inquiry)Lift_clear,
    .tp_dealloc = (destructor)Lift_dealloc,
    .tp_methods = Lift_methods,
    .tp_members = Lift_members,
};

/* Calls a method of the guest's handle table, which has `self` to say in messages where that is. */
static PyObject *ask_handles(PyObject *guest, PyObject *method, PyObject *key, PyObject *value, PyObject *self)
{
    PyObject *handles = PyObject_GetAttr(guest, handles_name);
    if (handles == NULL)
        return NULL;
    PyObject *args[] = {handles, key, value, self};
    PyObject *found = PyObject_VectorcallMethod(method, args, 4, NULL);
    Py_DECREF(handles);
    return found;
}

static PyObject *ComponentLift_own(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || self->guest == NULL)
        return LIFT_IN_PYTHON("own");
    return ask_handles(self->guest, take_name, args[0], args[1], (PyObject *)self);
}

static PyObject *ComponentLift_borrow(Lift *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || self->guest == NULL || self->lent != NULL)
        return LIFT_IN_PYTHON("borrow");
    return ask_handles(self->guest, get_name, args[0], args[1], (PyObject *)self);
}

static PyMethodDef ComponentLift_methods[] = {
    METHOD(ComponentLift, area),
    METHOD(ComponentLift, own),
    METHOD(ComponentLift, borrow),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef ComponentLift_members[] = {
    FIELD(Lift, encoding, READONLY),
    {"lent", T_OBJECT, offsetof(Lift, lent), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject ComponentLiftType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bindgen.runtime._support.ComponentLift",
    .tp_base = &LiftType,
    .tp_basicsize = sizeof(Lift),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_init = (initproc)ComponentLift_init,
    .tp_traverse = (traverseproc)Lift_traverse,
    .tp_clear = (inquiry)Lift_clear,
    .tp_methods = ComponentLift_methods,
    .tp_members = ComponentLift_members,
};

/* Lowering. */

typedef struct {
    PyObject *data; /* a str or bytes; nothing where the second walk fills the block */
    uint64_t size, align, length, pointer;
    Py_ssize_t shows; /* so many of the blocks behind it have their pointers and lengths in this one */
} Block;

typedef struct {
    PyObject_HEAD
    PyObject *guest, *where, *memory;
    PyObject *blocks; /* as a list, once it was asked for */
    PyObject *later;  /* the long lists: tuples of the number of their block, their rows, and the width of those */
    PyObject *encoding; /* of a component's texts */
    Block *noted;
    Py_ssize_t count, room;
    Py_ssize_t next; /* to be taken */
    bool component;
    bool wide; /* texts are not in UTF-8, and encoded by Python */
} Lower;

#define LOWER_IN_PYTHON(name) \
    in_python(self->component ? component_lower : python_lower, name, (PyObject *)self, args, nargs)

static void forget(Lower *self)
{
    Block *noted = self->noted;
    Py_ssize_t count = self->count;
    self->noted = NULL;
    self->count = self->room = self->next = 0;
    Py_CLEAR(self->blocks);
    Py_CLEAR(self->later);
    for (Py_ssize_t n = 0; n < count; n++)
        Py_XDECREF(noted[n].data);
    PyMem_Free(noted);
}

static int Lower_init(Lower *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"guest", "where"};
    PyObject *given[2] = {NULL, NULL};
    if (arguments(args, kwargs, names, 2, 2, given) < 0)
        return -1;
    forget(self);
    Py_XSETREF(self->guest, Py_NewRef(given[0]));
    Py_XSETREF(self->where, Py_NewRef(given[1]));
    Py_CLEAR(self->memory);
    return 0;
}

static int ComponentLower_init(Lower *self, PyObject *args, PyObject *kwargs)
{
    if (Lower_init(self, args, kwargs) < 0)
        return -1;
    bool wide = false;
    PyObject *encoding = encoding_of(self->guest, &wide);
    if (encoding == NULL)
        return -1;
    Py_XSETREF(self->encoding, encoding);
    self->component = true;
    self->wide = wide;
    return 0;
}

static int note(Lower *self, PyObject *data, uint64_t size, uint64_t align, uint64_t length)
{
    if (self->count == self->room) {
        Py_ssize_t room = self->room ? self->room * 2 : 8;
        Block *noted = PyMem_Realloc(self->noted, sizeof(Block) * (size_t)room);
        if (noted == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->noted = noted;
        self->room = room;
    }
    self->noted[self->count++] = (Block){Py_XNewRef(data), size, align, length, 0, 0};
    return 0;
}

/* A text that is not in UTF-8. What travels as its length is in code units. */
static int note_wide(Lower *self, PyObject *text)
{
    PyObject *encoded = PyObject_CallFunctionObjArgs(encode, text, self->encoding, NULL);
    PyObject *data;
    unsigned long long units;
    int done = -1;
    if (encoded != NULL && PyArg_ParseTuple(encoded, "SK", &data, &units))
        done = note(self, data, (uint64_t)PyBytes_GET_SIZE(data), 2, units);
    Py_XDECREF(encoded);
    return done;
}

static int note_text(Lower *self, PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyObject *encoded = PyObject_CallMethod(text, "encode", NULL); /* fails as it does in Python */
        if (encoded != NULL)
            PyErr_Format(PyExc_TypeError, "a string is expected, not %.200s", Py_TYPE(text)->tp_name);
        Py_XDECREF(encoded);
        return -1;
    }
    if (self->wide)
        return note_wide(self, text);
    Py_ssize_t size;
    if (PyUnicode_AsUTF8AndSize(text, &size) == NULL)
        return -1;
    return note(self, text, (uint64_t)size, 1, (uint64_t)size);
}

static PyObject *Lower_string(Lower *self, PyObject *text)
{
    return note_text(self, text) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *Lower_bytes(Lower *self, PyObject *data)
{
    if (!PyObject_CheckBuffer(data) && PyObject_Size(data) < 0)
        return NULL;
    if (!PyObject_CheckBuffer(data))
        return PyErr_Format(PyExc_TypeError, "bytes are expected, not %.200s", Py_TYPE(data)->tp_name);
    /* Of what may change, a copy. */
    PyObject *kept = PyBytes_Check(data) ? Py_NewRef(data) : PyBytes_FromObject(data);
    if (kept == NULL)
        return NULL;
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(kept);
    int done = note(self, kept, size, 1, size);
    Py_DECREF(kept);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* The arguments of what a generated module calls with numbers of its own, and the lengths of lists. */
static int numbers(PyObject *const *args, Py_ssize_t nargs, Py_ssize_t count, uint64_t *found)
{
    for (Py_ssize_t n = 0; n < count; n++)
        if (nargs != count || !to_number(args[n], &found[n])) {
            PyErr_Format(PyExc_TypeError, "%zd numbers are expected", count);
            return -1;
        }
    return 0;
}

static PyObject *Lower_block(Lower *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t given[2];
    if (numbers(args, nargs, 2, given) < 0)
        return NULL;
    return note(self, NULL, given[0], given[1], given[0]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *Lower_list(Lower *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t given[4], size = 0;
    if (numbers(args, nargs, 4, given) < 0)
        return NULL;
    uint64_t stride = given[0], reach = given[1] > stride ? given[1] : stride, length = given[3];
    if (length != 0 && (__builtin_mul_overflow(length - 1, stride, &size) || __builtin_add_overflow(size, reach, &size) ||
                        size >= MOST))
        return PyErr_Format(PyExc_OverflowError, "the list is too long");
    return note(self, NULL, size, given[2], length) < 0 ? NULL : Py_NewRef(Py_None);
}

/* A list or a tuple of what has a length. */
static PyObject *items(PyObject *sequence)
{
    if (PyList_Check(sequence) || PyTuple_Check(sequence))
        return Py_NewRef(sequence);
    return PyObject_Size(sequence) < 0 ? NULL : PySequence_List(sequence);
}

/* Notes a list that is handed over in pieces, later. */
static PyObject *note_later(Lower *self, PyObject *rows, Py_ssize_t width, Py_ssize_t texts)
{
    if (self->later == NULL && (self->later = PyList_New(0)) == NULL)
        return NULL;
    PyObject *list = Py_BuildValue("(nOn)", self->count, rows, width);
    if (list == NULL || PyList_Append(self->later, list) < 0) {
        Py_XDECREF(list);
        return NULL;
    }
    Py_DECREF(list);
    if (note(self, NULL, 8 * (uint64_t)texts, 4, (uint64_t)PySequence_Fast_GET_SIZE(rows)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Notes a list of rows of `width` texts, or of texts alone where `width` is 0. */
static PyObject *note_table(Lower *self, PyObject *table, Py_ssize_t width)
{
    Py_ssize_t texts, start = self->count, columns = width ? width : 1;
    PyObject *rows = items(table);
    if (rows == NULL)
        return NULL;
    Py_ssize_t length = PySequence_Fast_GET_SIZE(rows);
    bool fine = true;
    if (__builtin_mul_overflow(length, columns, &texts) || texts > PY_SSIZE_T_MAX / 16) {
        PyErr_Format(PyExc_OverflowError, "the list is too long");
        fine = false;
    }
    if (fine && texts > piece) {
        PyObject *noted = note_later(self, rows, width, texts);
        Py_DECREF(rows);
        return noted;
    }
    fine = fine && note(self, NULL, 8 * (uint64_t)texts, 4, (uint64_t)length) == 0;
    for (Py_ssize_t n = 0; fine && n < length && n < PySequence_Fast_GET_SIZE(rows); n++) {
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(rows, n));
        PyObject *row = width ? items(item) : NULL;
        if (width == 0)
            fine = note_text(self, item) == 0;
        else if (row == NULL)
            fine = false;
        else if (PySequence_Fast_GET_SIZE(row) != width) {
            PyErr_Format(PyExc_ValueError, "%zd values where %zd are expected", PySequence_Fast_GET_SIZE(row), width);
            fine = false;
        }
        for (Py_ssize_t k = 0; row != NULL && fine && k < PySequence_Fast_GET_SIZE(row); k++)
            fine = note_text(self, PySequence_Fast_GET_ITEM(row, k)) == 0;
        Py_XDECREF(row);
        Py_DECREF(item);
    }
    Py_DECREF(rows);
    if (fine && self->count != start + 1 + texts) {
        PyErr_Format(PyExc_RuntimeError, "the list changed while it was read");
        fine = false;
    }
    if (!fine)
        return NULL;
    self->noted[start].shows = texts;
    Py_RETURN_NONE;
}

static PyObject *Lower_texts(Lower *self, PyObject *texts)
{
    return note_table(self, texts, 0);
}

static PyObject *Lower_rows(Lower *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t width;
    if (nargs != 2 || !to_number(args[1], &width) || width == 0 || width > UINT32_MAX)
        return LOWER_IN_PYTHON("rows");
    return note_table(self, args[0], (Py_ssize_t)width);
}

/* Writes what is known, the blocks being where the guest says. Returns the number of the one whose place is useless. */
static Py_ssize_t fill(Lower *self, const Py_buffer *memory, PyObject *pointers)
{
    uint8_t *base = memory->buf;
    for (Py_ssize_t n = 0; n < self->count; n++) {
        Block *block = &self->noted[n];
        if (!to_number(PySequence_Fast_GET_ITEM(pointers, n), &block->pointer) ||
            !inside(memory, block->pointer, block->size) || block->align == 0 || block->pointer % block->align != 0 ||
            (block->size != 0 && block->pointer == 0) || block->pointer > UINT32_MAX)
            return n;
        if (block->data == NULL || block->size == 0)
            continue;
        Py_ssize_t size;
        const char *data;
        if (PyUnicode_Check(block->data))
            data = PyUnicode_AsUTF8AndSize(block->data, &size);
        else
            data = PyBytes_AS_STRING(block->data);
        if (data == NULL)
            return n;
        memcpy(base + block->pointer, data, block->size);
    }
    for (Py_ssize_t n = self->count - 1; n >= 0; n--) {
        Block *table = &self->noted[n];
        uint8_t *at = base + table->pointer;
        for (Py_ssize_t k = 1; k <= table->shows; k++, at += 8) {
            store32(at, (uint32_t)table[k].pointer);
            store32(at + 4, (uint32_t)table[k].length);
        }
    }
    return self->count;
}

static PyObject *Lower_place(Lower *self, PyObject *given)
{
    PyObject *memory = memory_of_guest(self->guest ? self->guest : Py_None, self->where ? self->where : Py_None);
    PyObject *pointers = PySequence_Fast(given, "pointers must be a sequence");
    Py_buffer buffer;
    if (memory == NULL || pointers == NULL || PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE) < 0) {
        Py_XDECREF(memory);
        Py_XDECREF(pointers);
        return NULL;
    }
    Py_ssize_t filled = -1;
    if (PySequence_Fast_GET_SIZE(pointers) == self->count)
        filled = fill(self, &buffer, pointers);
    else
        PyErr_Format(PyExc_ValueError, "%zd addresses for %zd blocks", PySequence_Fast_GET_SIZE(pointers), self->count);
    PyBuffer_Release(&buffer);
    Py_XSETREF(self->memory, memory);
    self->next = 0;
    PyObject *result = NULL;
    if (filled == self->count)
        result = Py_NewRef(Py_None);
    else if (!PyErr_Occurred()) {
        Block *block = &self->noted[filled];
        result = PyObject_CallMethod((PyObject *)self, "_refuse", "KKO", (unsigned long long)block->size,
                                     (unsigned long long)block->align, PySequence_Fast_GET_ITEM(pointers, filled));
    }
    Py_DECREF(pointers);
    return result;
}

static PyObject *Lower_take(Lower *self, PyObject *Py_UNUSED(none))
{
    if (self->memory == NULL || self->next >= self->count) {
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    Block *block = &self->noted[self->next];
    self->next += 1 + block->shows;
    return two_numbers(block->pointer, block->length);
}

static PyObject *Lower_put(Lower *self, PyObject *place)
{
    uint64_t at;
    Py_buffer memory;
    if (open_memory(self->memory, &memory, PyBUF_WRITABLE) < 0)
        return NULL;
    Block *block = self->next < self->count ? &self->noted[self->next] : NULL;
    bool fits = block != NULL && block->length <= UINT32_MAX && to_number(place, &at) && inside(&memory, at, 8);
    if (fits) {
        store32((uint8_t *)memory.buf + at, (uint32_t)block->pointer);
        store32((uint8_t *)memory.buf + at + 4, (uint32_t)block->length);
        self->next += 1 + block->shows;
    }
    PyBuffer_Release(&memory);
    return fits ? PyLong_FromUnsignedLongLong(block->pointer)
                : in_python(self->component ? component_lower : python_lower, "put", (PyObject *)self, &place, 1);
}

static PyObject *Lower_blocks(Lower *self, void *Py_UNUSED(closure))
{
    if (self->blocks != NULL && PyList_GET_SIZE(self->blocks) == self->count)
        return Py_NewRef(self->blocks);
    PyObject *list = PyList_New(self->count);
    for (Py_ssize_t n = 0; list != NULL && n < self->count; n++) {
        Block *block = &self->noted[n];
        PyObject *size = PyLong_FromUnsignedLongLong(block->size), *align = PyLong_FromUnsignedLongLong(block->align);
        PyObject *triple = NULL;
        if (size != NULL && align != NULL)
            triple = PyTuple_Pack(3, size, align, block->data != NULL ? block->data : Py_None);
        Py_XDECREF(size);
        Py_XDECREF(align);
        if (triple == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, n, triple);
    }
    Py_XSETREF(self->blocks, Py_XNewRef(list));
    return list;
}

static int Lower_traverse(Lower *self, visitproc visit, void *arg)
{
    Py_VISIT(self->guest);
    Py_VISIT(self->where);
    Py_VISIT(self->memory);
    Py_VISIT(self->blocks);
    Py_VISIT(self->later);
    Py_VISIT(self->encoding);
    return 0;
}

static int Lower_clear(Lower *self)
{
    Py_CLEAR(self->guest);
    Py_CLEAR(self->where);
    Py_CLEAR(self->memory);
    Py_CLEAR(self->encoding);
    forget(self);
    return 0;
}

static void Lower_dealloc(Lower *self)
{
    PyObject_GC_UnTrack(self);
    Lower_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef Lower_methods[] = {
    METHOD(Lower, block),
    METHOD(Lower, list),
    METHOD(Lower, rows),
    {"string", (PyCFunction)Lower_string, METH_O, NULL},
    {"bytes", (PyCFunction)Lower_bytes, METH_O, NULL},
    {"texts", (PyCFunction)Lower_texts, METH_O, NULL},
    {"place", (PyCFunction)Lower_place, METH_O, NULL},
    {"take", (PyCFunction)Lower_take, METH_NOARGS, NULL},
    {"put", (PyCFunction)Lower_put, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Lower_members[] = {
    FIELD(Lower, guest, READONLY),
    FIELD(Lower, where, READONLY),
    FIELD(Lower, memory, 0),
    {"later", T_OBJECT, offsetof(Lower, later), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Lower_properties[] = {
    {"blocks", (getter)Lower_blocks, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject LowerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bindgen.runtime._support.Lower",
    .tp_basicsize = sizeof(Lower),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Lower_init,
    .tp_traverse = (traverseproc)Lower_traverse,
    .tp_clear = (inquiry)Lower_clear,
    .tp_dealloc = (destructor)Lower_dealloc,
    .tp_methods = Lower_methods,
    .tp_members = Lower_members,
    .tp_getset = Lower_properties,
};

static PyObject *ComponentLower_own(Lower *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || self->guest == NULL)
        return LOWER_IN_PYTHON("own");
    return ask_handles(self->guest, add_name, args[0], args[1], (PyObject *)self);
}

static PyMethodDef ComponentLower_methods[] = {
    METHOD(ComponentLower, own),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef ComponentLower_members[] = {
    FIELD(Lower, encoding, READONLY),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject ComponentLowerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bindgen.runtime._support.ComponentLower",
    .tp_base = &LowerType,
    .tp_basicsize = sizeof(Lower),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_init = (initproc)ComponentLower_init,
    .tp_traverse = (traverseproc)Lower_traverse,
    .tp_clear = (inquiry)Lower_clear,
    .tp_methods = ComponentLower_methods,
    .tp_members = ComponentLower_members,
};

/* The module. */

static int constant(PyObject *class, const char *name, long long *value)
{
    PyObject *found = PyObject_GetAttrString(class, name);
    *value = found == NULL ? -1 : PyLong_AsLongLong(found);
    Py_XDECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

/* setup(Lift: type, Lower: type, memory_of: Callable): what is left to Python. */
static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *lift, *lower, *memory;
    if (!PyArg_ParseTuple(args, "OOO", &lift, &lower, &memory))
        return NULL;
    if (constant(lift, "LIMIT", &limit) < 0 || constant(lift, "TEXT", &text_cost) < 0 ||
        constant(lift, "ELEMENT", &element_cost) < 0 || constant(lower, "PIECE", &piece) < 0)
        return NULL;
    Py_XSETREF(python_lift, Py_NewRef(lift));
    Py_XSETREF(python_lower, Py_NewRef(lower));
    Py_XSETREF(memory_of, Py_NewRef(memory));
    Py_RETURN_NONE;
}

/* setup_component(Lift: type, Lower: type, encode: Callable): the same for components, whose classes have the limits of
 * the others. */
static PyObject *setup_component(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *lift, *lower, *function;
    if (!PyArg_ParseTuple(args, "OOO", &lift, &lower, &function))
        return NULL;
    Py_XSETREF(component_lift, Py_NewRef(lift));
    Py_XSETREF(component_lower, Py_NewRef(lower));
    Py_XSETREF(encode, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"setup", setup, METH_VARARGS, NULL},
    {"setup_component", setup_component, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bindgen.runtime._support",
    .m_size = -1,
    .m_methods = functions,
};

/* The names that are asked for by attribute. */
static int intern_names(void)
{
    const struct {
        PyObject **place;
        const char *name;
    } names[] = {
        {&memory_name, "memory"},   {&reused_name, "reused"}, {&encoding_name, "encoding"},
        {&handles_name, "handles"}, {&get_name, "get"},       {&take_name, "take"},
        {&add_name, "add"},         {&result_name, "result"},
    };
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
        if ((*names[n].place = PyUnicode_InternFromString(names[n].name)) == NULL)
            return -1;
    return 0;
}

PyMODINIT_FUNC PyInit__support(void)
{
    PyObject *self = PyModule_Create(&module);
    if (self == NULL || intern_names() < 0 || PyModule_AddType(self, &LiftType) < 0 ||
        PyModule_AddType(self, &LowerType) < 0 || PyModule_AddType(self, &ComponentLiftType) < 0 ||
        PyModule_AddType(self, &ComponentLowerType) < 0)
        Py_CLEAR(self);
    return self;
}
