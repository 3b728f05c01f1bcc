/* avant image info: partitions, file systems, and what would be booted. */
#include "image_tool.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct info_options {
	struct command_arguments arguments; /* image */
	bool json;
};

/* What was found out. */
struct findings {
	const struct image_info *info;
	struct image_boot boot;
	bool bootable;
	struct err why_not;
};

/* ---- text ---- */

struct amount {
	char text[32];
};

/* 1610612736 as "1.5 GiB". */
static struct amount amount(u64 bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct amount a;
	unsigned unit = 0;
	double value = (double)bytes;

	while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	if (value == (double)(u64)value)
		snprintf(a.text, sizeof(a.text), "%" PRIu64 " %s", (u64)value, units[unit]);
	else
		snprintf(a.text, sizeof(a.text), "%.1f %s", value, units[unit]);
	return a;
}

static void print_field(const char *name, const char *value)
{
	if (!*value)
		return;
	printf("  %-13s", name);
	image_tool_print(stdout, value);
	putchar('\n');
}

static void print_volume(const struct image_volume *volume)
{
	if (volume->number)
		printf("partition %u\n", volume->number);
	else
		puts("contents");
	print_field("type", *volume->type ? volume->type : "unknown");
	if (volume->number)
		printf("  %-13s%s at %s\n", "size", amount(volume->size).text, amount(volume->offset).text);
	print_field("label", volume->label);
	print_field("uuid", volume->uuid);
	print_field("partlabel", volume->partlabel);
	print_field("partuuid", volume->partuuid);
	print_field("mounted at", volume->mount);
	print_field("note", volume->note);
}

static void print_boot(const struct findings *findings)
{
	const struct image_boot *boot = &findings->boot;

	puts("boot");
	if (!findings->bootable) {
		print_field("nothing", findings->why_not.text);
		return;
	}
	print_field("entry", boot->title);
	print_field("found by", boot->source);
	print_field("because", boot->why);
	print_field("kernel", boot->kernel.path);
	for (u32 i = 0; i < boot->initrd_count; i++)
		print_field("initrd", boot->initrd[i].path);
	print_field("command line", boot->cmdline);
	for (u32 i = 0; i < boot->note_count; i++)
		print_field("passed over", boot->note[i]);
}

static void print_text(const char *path, const struct findings *findings)
{
	static const struct {
		const char *format, *text;
	} names[] = {
		{"gpt", "disk with a GPT"},
		{"dos", "disk with an MBR"},
		{"disk", "disk without partitions"},
		{"partitions", "disk with partitions"},
		{"archive", "archive"},
		{"directory", "directory"},
	};
	const struct image_info *info = findings->info;
	const char *format = info->format;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].format, info->format) == 0)
			format = names[i].text;
	printf("%s: %s", path, format);
	if (info->size)
		printf(", %s", amount(info->size).text);
	putchar('\n');
	for (u32 i = 0; i < info->volume_count; i++)
		print_volume(&info->volume[i]);
	print_boot(findings);
}

/* ---- JSON ---- */

/* Names are any bytes; what is no UTF-8 is shown as such. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	return value ? value : json_string("\xef\xbf\xbd");
}

static json_t *volume_json(const struct image_volume *volume)
{
	json_t *object = json_object();

	json_object_set_new(object, "partition", volume->number ? json_integer(volume->number) : json_null());
	json_object_set_new(object, "offset", json_integer((json_int_t)volume->offset));
	json_object_set_new(object, "size", json_integer((json_int_t)volume->size));
	json_object_set_new(object, "readable", json_boolean(volume->readable));
	json_object_set_new(object, "type", text_json(volume->type));
	json_object_set_new(object, "label", text_json(volume->label));
	json_object_set_new(object, "uuid", text_json(volume->uuid));
	json_object_set_new(object, "partlabel", text_json(volume->partlabel));
	json_object_set_new(object, "partuuid", text_json(volume->partuuid));
	json_object_set_new(object, "mount", *volume->mount ? text_json(volume->mount) : json_null());
	json_object_set_new(object, "note", text_json(volume->note));
	return object;
}

static json_t *boot_json(const struct image_boot *boot)
{
	json_t *object = json_object(), *initrds = json_array(), *notes = json_array();

	json_object_set_new(object, "entry", text_json(boot->title));
	json_object_set_new(object, "found_by", text_json(boot->source));
	json_object_set_new(object, "because", text_json(boot->why));
	json_object_set_new(object, "kernel", text_json(boot->kernel.path));
	for (u32 i = 0; i < boot->initrd_count; i++)
		json_array_append_new(initrds, text_json(boot->initrd[i].path));
	json_object_set_new(object, "initrd", initrds);
	json_object_set_new(object, "command_line", text_json(boot->cmdline));
	for (u32 i = 0; i < boot->note_count; i++)
		json_array_append_new(notes, text_json(boot->note[i]));
	json_object_set_new(object, "passed_over", notes);
	return object;
}

static void print_json(const char *path, const struct findings *findings)
{
	json_t *object = json_object(), *volumes = json_array();

	json_object_set_new(object, "image", text_json(path));
	json_object_set_new(object, "format", text_json(findings->info->format));
	json_object_set_new(object, "size", json_integer((json_int_t)findings->info->size));
	for (u32 i = 0; i < findings->info->volume_count; i++)
		json_array_append_new(volumes, volume_json(&findings->info->volume[i]));
	json_object_set_new(object, "volumes", volumes);
	json_object_set_new(object, "boot", findings->bootable ? boot_json(&findings->boot) : json_null());
	json_object_set_new(object, "boot_error", findings->bootable ? json_null() : text_json(findings->why_not.text));
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

static int info_main(const struct command *command, void *parsed)
{
	const struct info_options *options = parsed;
	const char *path = options->arguments.items[0];
	struct findings findings = {.why_not = ERR_INIT};
	struct err err = ERR_INIT;
	struct image *image = image_open(path, NULL, &err);
	int status = STATUS_OK;

	if (image)
		findings.info = image_info(image, &err);
	if (findings.info) {
		findings.bootable = image_find_boot(image, &findings.boot, &findings.why_not) == 0;
		if (options->json)
			print_json(path, &findings);
		else
			print_text(path, &findings);
	} else {
		status = command_error(command, "%s", err.text);
	}
	image_close(image);
	return command_finish_output(status);
}

static const struct option_spec option_specs[] = {
	{"json", NULL, "as a JSON object", NULL, NULL, offsetof(struct info_options, json)},
	{0},
};

const struct command command_image_info = {
	.name = "image info",
	.summary = "partitions, file systems, what is booted",
	.usage = "[OPTION]... IMAGE",
	.text = "Tells what an image holds: partitions, file systems, and what 'avant run --image' would boot.\n",
	.examples = "  avant image info debian.img\n",
	.options = option_specs,
	.options_size = sizeof(struct info_options),
	.arguments_needed = 1,
	.arguments = "IMAGE",
	.arguments_offset = offsetof(struct info_options, arguments),
	.main = info_main,
};
