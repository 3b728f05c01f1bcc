/*
 * What a module says of itself (.modinfo): whose it is, what it needs, and what it drives. Of the thousands that a
 * distribution has, a guest loads those that its machine and its system ask for; these are known here.
 */
#include <stdlib.h>

#include "internal.h"

#define BANNER    "Linux version "
#define TEXT_MOST 8192u /* bytes of what is kept; nobody has more */

/* --- what guests load --------------------------------------------------------------------------------------------- */

/* Names under which the kernel or udev asks for modules, as far as they matter. */
static const struct {
	const char *alias;
	bool start; /* it only begins like this */
} asked_for[] = {
	/* devices that runtime/ has: the numbers are VIRTIO_ID_… */
	{"virtio:d00000001", true},
	{"virtio:d00000002", true},
	{"virtio:d00000003", true},
	{"virtio:d00000004", true},
	{"virtio:d00000009", true},
	{"pci:v00001AF4d", true},
	{"acpi*:PNP0C0C:", true}, /* the button */
	{"acpi*:QEMU0002:", true},
	{"input:", true},
	{"platform:pcspkr", false},
	{"platform:efivars", false},
	/* what systemd asks for in any case */
	{"fs-autofs", false},
	{"fs-configfs", false},
	{"fs-binfmt_misc", false},
	{"fs-fuse", false},
	{"devname:mapper/control", false},
	{"devname:loop-control", false},
	{"ipt_icmp", false}, /* ip_tables */
};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Drivers for any processor that has a feature: cpu:type:x86,ven*fam*mod*:feature:*0099*. */
static bool is_for_processor(const char *alias, const struct features *features)
{
	static const char start[] = "cpu:type:x86,ven*fam*mod*:feature:*";
	char *end;
	unsigned long number;

	if (!starts_with(alias, start))
		return false;
	number = strtoul(alias + strlen(start), &end, 16);
	return *end == '*' && number < FEATURE_WORDS * 32 && features_have(features, (u32)number);
}

static bool is_for_guests(const char *alias, const struct features *features, const char *const *file_system)
{
	for (unsigned i = 0; i < ARRAY_SIZE(asked_for); i++)
		if (asked_for[i].start ? starts_with(alias, asked_for[i].alias) : !strcmp(alias, asked_for[i].alias))
			return true;
	for (; *file_system; file_system++)
		if (starts_with(alias, "fs-") && strcmp(alias + 3, *file_system) == 0)
			return true;
	return is_for_processor(alias, features);
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* The value if the text is "key=value", or NULL. */
static const char *value_of(const char *text, const char *key)
{
	size_t length = strlen(key);

	return strncmp(text, key, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

static void read_text(const char *text, const struct features *features, const char *const *file_system,
		      struct module_info *info)
{
	const char *value;

	if (strlen(text) > TEXT_MOST)
		return;
	if ((value = value_of(text, "name")))
		info->name = value;
	else if ((value = value_of(text, "depends")))
		info->depends = value;
	else if ((value = value_of(text, "vermagic")))
		info->release = value;
	else if ((value = value_of(text, "alias")))
		info->for_guests |= is_for_guests(value, features, file_system);
}

int module_read_info(const u8 *data, u64 size, const char *name, const char *const *file_system,
		     const struct cpu_model *cpu, struct module_info *info, struct err *err)
{
	struct features features;
	struct elf_file elf;
	const struct elf_part *part;

	*info = (struct module_info){.name = "", .depends = "", .release = ""};
	if (elf_open(&elf, data, size, name, err) < 0)
		return -1;
	part = elf_section(&elf, ".modinfo");
	if (!part || !part->size || elf.data[part->offset + part->size - 1]) {
		elf_close(&elf);
		return err_set(err, "'%s' is no kernel module, or damaged: it does not say what it is", name);
	}
	features_of(cpu, FEATURE_WORDS, false, &features);
	for (u64 at = 0; at < part->size;) {
		const char *text = (const char *)elf.data + part->offset + at;

		read_text(text, &features, file_system, info);
		at += strlen(text) + 1;
	}
	elf_close(&elf);
	return 0;
}

bool module_fits(const struct module_info *info, const struct image *kernel)
{
	u64 banner = image_find(kernel, "linux_banner"), left = banner ? image_left(kernel, banner) : 0;
	const char *text = left ? (const char *)image_at(kernel, banner, left) : NULL;
	size_t length = strcspn(info->release, " "), start = strlen(BANNER);

	return text && length && left > start + length && memcmp(text, BANNER, start) == 0 &&
	       memcmp(text + start, info->release, length) == 0 && text[start + length] == ' ';
}
