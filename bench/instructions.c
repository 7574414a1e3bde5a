/* A plugin of QEMU's emulator that counts the instructions of the emulated processor.
 *
 *     qemu-system-x86_64 -accel tcg -plugin instructions.so,into=FILE
 *
 * FILE has 8 bytes or more, and its first 8 are the count, in this machine's byte order: it is mapped, so whoever reads
 * the file finds the count of that moment. An instruction is counted when the block that it is in begins. What is
 * declared here is of QEMU's qemu-plugin.h, version 1 (QEMU's manual, "QEMU TCG Plugins").
 */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t plugin_id;
struct block;
enum operation { ADD_U64 };

typedef void (*on_translation)(plugin_id plugin, struct block *block);

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id plugin, on_translation call);
extern size_t qemu_plugin_tb_n_insns(const struct block *block);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *block, enum operation operation, void *number,
                                                     uint64_t addend);

#define SEEN_BY_QEMU __attribute__((visibility("default")))

SEEN_BY_QEMU int qemu_plugin_version = 1;

static uint64_t *count;

static void translated(plugin_id plugin, struct block *block) {
    (void)plugin;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, count, qemu_plugin_tb_n_insns(block));
}

/* Called once; what is not 0 ends QEMU. */
SEEN_BY_QEMU int qemu_plugin_install(plugin_id plugin, const void *qemu, int argc, char **argv) {
    (void)qemu;
    if (argc != 1 || strncmp(argv[0], "into=", 5) != 0) return -1;
    int file = open(argv[0] + 5, O_RDWR);
    if (file < 0) return -1;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (count == MAP_FAILED) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    return 0;
}
