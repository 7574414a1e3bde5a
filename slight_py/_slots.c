/* Slots: where guests have their memories and stacks, one guest after the other. slots.py says when they are used.
 *
 * A memory's pages stay with its slot, and are cleared: those that hold something, as the kernel says (PAGEMAP_SCAN,
 * Linux 6.7), up to KEEP bytes of them, and not behind WINDOW. All others, and all where the kernel doesn't say, go back
 * to the system, which hands out pages of zeros.
 *
 * A memory's slot is RESERVE bytes of addresses, all that a 32-bit index reaches, with GUARD bytes behind them for the
 * constant offsets of instructions. What lies behind the memory's size can't be touched: compiled code relies on it, and
 * has no checks of its own.
 *
 * The functions of wasmtime's C API are handed over as addresses (`setup`), so nothing is linked against.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RESERVE ((size_t)4 << 30)
#define GUARD ((size_t)32 << 20)

#define KEEP ((size_t)256 << 10)    /* bytes that stay with a memory's slot at the most */
#define KEEP_ALL ((size_t)64 << 20) /* and with all slots together */
#define WINDOW ((size_t)24 << 20)   /* how far into a memory they may lie: C built by zig has 16 MiB of stack first */
#define SLOW 20000                  /* nanoseconds that a look at the pages of a memory may take */
#define REGIONS 32

/* linux/fs.h, as the headers of the system may be older than the kernel that runs. */
typedef struct {
    uint64_t start, end, categories;
} Region;

typedef struct {
    uint64_t size, flags, start, end, walk_end, regions, regions_length, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} Scan;

#undef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOWR('f', 16, Scan)
enum { OF_FILE = 1 << 2, PRESENT = 1 << 3, SWAPPED = 1 << 4, ZERO_PAGE = 1 << 5 };

/* wasmtime/config.h and wasmtime/async.h */
typedef struct {
    void *env;
    uint8_t *(*get)(void *env, size_t *size, size_t *capacity);
    void *(*grow)(void *env, size_t size);
    void (*finalizer)(void *env);
} LinearMemory;

typedef struct {
    void *env;
    void *(*new_memory)(void *env, const void *type, size_t minimum, size_t maximum, size_t reserved, size_t guard,
                        LinearMemory *memory);
    void (*finalizer)(void *env);
} MemoryCreator;

typedef struct {
    void *env;
    uint8_t *(*get)(void *env, size_t *length);
    void (*finalizer)(void *env);
} StackMemory;

typedef struct {
    void *env;
    void *(*new_stack)(void *env, size_t size, bool zeroed, StackMemory *stack);
    void (*finalizer)(void *env);
} StackCreator;

/* The C API. */
#define FUNCTIONS(X)                                                                                                  \
    X(error_new, void *, (const char *))                                                                              \
    X(config_memory_reservation_set, void, (void *, uint64_t))                                                        \
    X(config_memory_guard_size_set, void, (void *, uint64_t))                                                         \
    X(config_host_memory_creator_set, void, (void *, MemoryCreator *))                                                \
    X(config_host_stack_creator_set, void, (void *, StackCreator *))

#define DECLARE(name, result, arguments) static result(*wasmtime_##name) arguments;
FUNCTIONS(DECLARE)

struct Slots;

/* One memory, or one stack. */
typedef struct Slot {
    struct Slots *slots;
    uint8_t *base;
    size_t size;   /* what can be written, from the base: the guest's, or what the last guest had */
    size_t extent; /* behind it no page holds anything, be it zeros */
    size_t kept;   /* bytes of the pages that were left here when the last guest went */
    struct Slot *next;
} Slot;

/* All memories, or all stacks, of an engine. */
typedef struct Slots {
    pthread_mutex_t lock; /* for what the slots share: guests may run in threads */
    uint8_t *region; /* begins with GUARD bytes, as all slots but the first have them before them */
    size_t length, stride, limit, count;
    char none_left[64];
    size_t begun;
    size_t kept;
    Slot *unused; /* what was used last comes first: its pages are in the processor's caches */
    Slot slot[];
} Slots;

/* The page map of this process, or -1: not there, or another process's since a fork. */
static int pagemap = -1;
static size_t page = 4096;

static void forget_pagemap(void)
{
    close(pagemap);
    pagemap = -1;
}

static Slots *slots_new(const char *what, size_t count, size_t stride, size_t limit)
{
    size_t length = GUARD + count * stride;
    Slots *slots = calloc(1, sizeof(Slots) + count * sizeof(Slot));
    if (slots == NULL)
        return NULL;
    slots->region = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots->region == MAP_FAILED) {
        free(slots);
        return NULL;
    }
    /* With huge pages a small guest would take two megabytes, and have them cleared. */
    madvise(slots->region, length, MADV_NOHUGEPAGE);
    pthread_mutex_init(&slots->lock, NULL);
    slots->length = length;
    slots->stride = stride;
    slots->limit = limit;
    slots->count = count;
    snprintf(slots->none_left, sizeof(slots->none_left), "all %zu %s are in use", count, what);
    return slots;
}

static void slots_delete(void *env)
{
    Slots *slots = env;
    munmap(slots->region, slots->length);
    pthread_mutex_destroy(&slots->lock);
    free(slots);
}

static Slot *take(Slots *slots)
{
    pthread_mutex_lock(&slots->lock);
    Slot *slot = slots->unused;
    if (slot != NULL) {
        slots->unused = slot->next;
    } else if (slots->begun < slots->count) {
        slot = &slots->slot[slots->begun];
        slot->slots = slots;
        slot->base = slots->region + GUARD + slots->begun++ * slots->stride;
    }
    if (slot != NULL)
        slots->kept -= slot->kept;
    pthread_mutex_unlock(&slots->lock);
    return slot;
}

static void give_back(Slot *slot)
{
    Slots *slots = slot->slots;
    pthread_mutex_lock(&slots->lock);
    slot->next = slots->unused;
    slots->unused = slot;
    slots->kept += slot->kept;
    pthread_mutex_unlock(&slots->lock);
}

/* Memories. */

/* Sets what can be written to `size` bytes, a multiple of the page; says whether it could. */
static bool resize(Slot *slot, size_t size)
{
    uint8_t *end = slot->base + slot->size;
    if (size > slot->size && mprotect(end, size - slot->size, PROT_READ | PROT_WRITE)) {
        /* It may have come a part of the way. To take that back needs nothing that the system could lack. */
        if (mprotect(end, size - slot->size, PROT_NONE))
            abort();
        return false;
    }
    if (size < slot->size && mprotect(slot->base + size, slot->size - size, PROT_NONE))
        return false;
    slot->size = size;
    return true;
}

static uint8_t *memory_get(void *env, size_t *size, size_t *capacity)
{
    Slot *slot = env;
    *size = slot->size;
    *capacity = slot->slots->limit;
    return slot->base;
}

static void *memory_grow(void *env, size_t size)
{
    Slot *slot = env;
    if (size > slot->slots->limit)
        return wasmtime_error_new("a memory that the slots are not for");
    return resize(slot, size) ? NULL : wasmtime_error_new("the system has no memory left");
}

/* How many bytes may stay with a slot, given what stays with the others. */
static size_t allowance(Slots *slots)
{
    pthread_mutex_lock(&slots->lock);
    size_t left = slots->kept < KEEP_ALL ? KEEP_ALL - slots->kept : 0;
    pthread_mutex_unlock(&slots->lock);
    return left < KEEP ? left : KEEP;
}

/* Has the kernel find pages that hold something: in memory or in swap, and not the system's one page of zeros, which a
 * guest that only reads gets. Says how many regions there are, and in `at` how far it came, or -1. */
static int scan(uint8_t **at, const uint8_t *end, size_t max_pages, Region found[REGIONS])
{
    Scan arguments = {
        .size = sizeof(arguments),
        .start = (uintptr_t)*at,
        .end = (uintptr_t)end,
        .regions = (uintptr_t)found,
        .regions_length = REGIONS,
        .max_pages = max_pages,
        .category_inverted = ZERO_PAGE | OF_FILE,
        .category_mask = ZERO_PAGE | OF_FILE,
        .category_anyof_mask = PRESENT | SWAPPED,
    };
    int count = ioctl(pagemap, PAGEMAP_SCAN, &arguments);
    if (count >= 0)
        *at = (uint8_t *)(uintptr_t)arguments.walk_end;
    return count;
}

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Makes all of a memory zeros, as it was; says whether it could. */
static bool clear(Slot *slot)
{
    if (slot->extent < slot->size)
        slot->extent = slot->size;
    if (slot->extent > WINDOW) {
        /* A guest may touch, or only read, pages far apart: each look would take longer, for all that come after. */
        if (madvise(slot->base + WINDOW, slot->extent - WINDOW, MADV_DONTNEED))
            return false;
        slot->extent = WINDOW;
    }
    uint8_t *at = slot->base, *size = at + slot->size, *extent = at + slot->extent;
    size_t left = allowance(slot->slots) / page;
    int64_t looking = 0;
    slot->kept = 0;
    while (pagemap >= 0 && left > 0 && at < extent) {
        Region found[REGIONS];
        uint8_t *begun = at;
        int64_t started = nanoseconds();
        int count = scan(&at, extent, left, found);
        looking += nanoseconds() - started;
        if (count < 0 || at == begun)
            break;
        for (int n = 0; n < count; n++) {
            uint8_t *start = (uint8_t *)(uintptr_t)found[n].start, *end = (uint8_t *)(uintptr_t)found[n].end;
            /* Behind the size are pages of guests that had more, zeros since they went. */
            if (start < size)
                memset(start, 0, (size_t)((end < size ? end : size) - start));
            slot->kept += (size_t)(end - start);
            left -= (size_t)(end - start) / page;
        }
    }
    if (looking > SLOW) {
        /* There is page after page of zeros that were only read, which each look would go through. */
        at = slot->base;
        slot->kept = 0;
    }
    if (at >= extent)
        return true;
    size_t rest = (size_t)(extent - at);
    slot->extent -= rest;
    return madvise(at, rest, MADV_DONTNEED) == 0;
}

static void memory_delete(void *env)
{
    Slot *slot = env;
    /* A slot that still holds what the last guest wrote is never used again. */
    if (clear(slot))
        give_back(slot);
}

static void *memory_new(void *env, const void *type, size_t minimum, size_t maximum, size_t reserved, size_t guard,
                        LinearMemory *memory)
{
    (void)type;
    (void)maximum;
    Slots *slots = env;
    if (reserved > RESERVE || guard > GUARD || minimum > slots->limit || minimum % page)
        return wasmtime_error_new("a memory that the slots are not for");
    Slot *slot = take(slots);
    if (slot == NULL)
        return wasmtime_error_new(slots->none_left);
    if (!resize(slot, minimum)) {
        /* One that couldn't become smaller may have come a part of the way, and is never used again. */
        if (minimum >= slot->size)
            give_back(slot);
        return wasmtime_error_new("the system has no memory left");
    }
    *memory = (LinearMemory){slot, memory_get, memory_grow, memory_delete};
    return NULL;
}

/* Stacks. What is left on one can't be seen by the next guest: a guest has no way to its own stack. */

static uint8_t *stack_get(void *env, size_t *length)
{
    Slot *slot = env;
    *length = slot->size;
    return slot->base + page + slot->size;
}

static void stack_delete(void *env)
{
    give_back(env);
}

static void *stack_new(void *env, size_t size, bool zeroed, StackMemory *stack)
{
    Slots *slots = env;
    if (size > slots->limit || zeroed)
        return wasmtime_error_new("a stack that the slots are not for");
    Slot *slot = take(slots);
    if (slot == NULL)
        return wasmtime_error_new(slots->none_left);
    if (slot->size == 0) {
        /* Below it is a page that can't be touched. */
        if (mprotect(slot->base + page, slots->limit, PROT_READ | PROT_WRITE)) {
            give_back(slot);
            return wasmtime_error_new("the system has no memory left");
        }
        slot->size = slots->limit;
    }
    *stack = (StackMemory){slot, stack_get, stack_delete};
    return NULL;
}

/* configure(config: int, memories: int, memory: int, stacks: int, stack: int): has the engines of a configuration use
 * slots: how many memories, of how many bytes each, and stacks likewise. Raises MemoryError where the system has no room.
 */
static PyObject *configure(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long config;
    Py_ssize_t memories, memory, stacks, stack;
    if (!PyArg_ParseTuple(args, "Knnnn", &config, &memories, &memory, &stacks, &stack))
        return NULL;
    size_t most = (size_t)memory < RESERVE ? (size_t)memory : RESERVE;
    Slots *of_memories = slots_new("memories", (size_t)memories, RESERVE + GUARD, most);
    size_t length = ((size_t)stack + page - 1) / page * page;
    Slots *of_stacks = slots_new("stacks", (size_t)stacks, length + page, length);
    if (of_memories == NULL || of_stacks == NULL) {
        if (of_memories != NULL)
            slots_delete(of_memories);
        if (of_stacks != NULL)
            slots_delete(of_stacks);
        return PyErr_NoMemory();
    }
    /* They are deleted with the engine, and that goes after the last of its instances. */
    MemoryCreator memory_creator = {of_memories, memory_new, slots_delete};
    StackCreator stack_creator = {of_stacks, stack_new, slots_delete};
    void *pointer = (void *)(uintptr_t)config;
    wasmtime_config_memory_reservation_set(pointer, RESERVE);
    wasmtime_config_memory_guard_size_set(pointer, GUARD);
    wasmtime_config_host_memory_creator_set(pointer, &memory_creator);
    wasmtime_config_host_stack_creator_set(pointer, &stack_creator);
    Py_RETURN_NONE;
}

/* setup(address: Callable[[str], int]) -> bool: takes the C API's functions, whose addresses `address` gives by name;
 * says whether the kernel says which pages hold something. */
static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *address)
{
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
    page = (size_t)sysconf(_SC_PAGESIZE);
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint8_t *at = (uint8_t *)((uintptr_t)&pagemap & ~(uintptr_t)(page - 1));
    Region found[REGIONS];
    if (pagemap >= 0 && (scan(&at, at + page, 1, found) != 1 || pthread_atfork(NULL, NULL, forget_pagemap) != 0)) {
        close(pagemap);
        pagemap = -1;
    }
    return PyBool_FromLong(pagemap >= 0);
}

static PyMethodDef functions[] = {
    {"setup", setup, METH_O, NULL},
    {"configure", configure, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "slight_py._slots",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__slots(void)
{
    return PyModule_Create(&module);
}
