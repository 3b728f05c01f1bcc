/* Where the machine's devices are: ports, MMIO ranges and interrupt lines. Shared by the devices and the ACPI tables.
 */
#ifndef AVANT_DEV_PLATFORM_H
#define AVANT_DEV_PLATFORM_H

#define PORT_PIC_MASTER       0x20
#define PORT_PIT              0x40
#define PORT_SYSTEM_B         0x61 /* PIT channel 2 gate and output */
#define PORT_RTC              0x70
#define PORT_POST             0x80
#define PORT_PIC_SLAVE        0xa0
#define PORT_BOOT_TIMER       0xf2 /* a write of byte n notes the time since launch as boot mark n */
#define PORT_DEBUG_EXIT       0xf4 /* with --debug-exit: a write of n ends the run with status 2·n+1 */
#define PORT_UART             0x3f8
#define PORT_PIC_ELCR         0x4d0
#define PORT_ACPI_PM1_EVENT   0x600 /* 4 bytes: status, enable */
#define PORT_ACPI_PM1_CONTROL 0x604 /* 2 bytes */
#define PORT_ACPI_PM_TIMER    0x608 /* 4 bytes, 3.579545 MHz, 32 bits */
#define PORT_PCI              0xcf8 /* 8 bytes: configuration address, configuration data */
#define PORT_RESET            0xcf9 /* ACPI reset register, in the middle of them; value 0x06 */

#define PCI_MMIO_BASE 0xc0000000ULL /* BARs, up to ... */
#define PCI_MMIO_END  0xfeb00000ULL
#define PCI_ECAM      0xfeb00000ULL /* configuration space of bus 0 */
#define PCI_ECAM_SIZE 0x00100000ULL

#define MMIO_IOAPIC 0xfec00000ULL
#define MMIO_LAPIC  0xfee00000ULL

#define GSI_PIT   2
#define GSI_UART  4
#define GSI_RTC   8
#define GSI_SCI   9
#define GSI_COUNT 24

/* INTA of the PCI slots, by turns. The 8259s have these inputs as well, for guests that do not use the IOAPIC. */
#define GSI_PCI_0     10
#define GSI_PCI_1     11
#define GSI_PCI_2     5
#define PCI_GSI_COUNT 3

#define ACPI_SLEEP_TYPE_S5 5

struct vm;
struct err;

/*
 * Creates all devices: vm->ports and vm->mmio are empty, vm->vcpu, vm->console and vm->clock (clock_init) are ready.
 * Returns 0, or -1 with a message in err and nothing left behind.
 */
int platform_create(struct vm *vm, struct err *err);
void platform_destroy(struct vm *vm);

#endif
