/* Where boot data lies in the guest's first MiB. Linux copies what it needs before it hands that memory out. */
#ifndef AVANT_BOOT_LAYOUT_H
#define AVANT_BOOT_LAYOUT_H

#define BOOT_GDT              0x6000u
#define BOOT_PARAMS           0x7000u /* one page: struct boot_params, the "zero page" */
#define BOOT_PAGE_TABLES      0x9000u /* PML4, PDPT and 4 page directories: identity map of 4 GiB */
#define BOOT_PAGE_TABLES_SIZE 0x6000u
#define BOOT_CMDLINE          0x20000u
#define BOOT_CMDLINE_ROOM     0x10000u

#define BOOT_LOW_RAM_END 0x9fc00u /* usable memory ends here: above are EBDA, video memory and ROMs on a PC */
#define BOOT_EBDA_END    0xa0000u
#define BOOT_ACPI        0xe0000u /* to BOOT_MIB: reserved, as the BIOS is; guests that search find the RSDP here */
#define BOOT_MIB         0x100000u

#endif
