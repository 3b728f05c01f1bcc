#include "run_image.h"

#include "image_tool.h"
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether one of the words is a console on a serial port or a virtio console. */
static bool names_serial_console(const char *cmdline)
{
	static const char *const consoles[] = {"console=ttyS", "console=hvc", "console=uart"};

	for (const char *word = cmdline; *word; word += strcspn(word, " ")) {
		word += strspn(word, " ");
		for (size_t i = 0; i < ARRAY_SIZE(consoles); i++)
			if (strncmp(word, consoles[i], strlen(consoles[i])) == 0)
				return true;
	}
	return false;
}

static int take_cmdline(struct run_image *found, struct vm_config *config, const struct image_boot *boot,
			struct err *err)
{
	bool add = !names_serial_console(boot->cmdline);
	/* "--" ends what is the kernel's: what follows goes to init */
	const char *rest = strstr(boot->cmdline, " -- ");
	int length = rest ? (int)(rest - boot->cmdline) : (int)strlen(boot->cmdline);

	if (asprintf(&found->append, "%.*s%s%s", length, boot->cmdline,
		     add ? length ? " console=ttyS0" : "console=ttyS0" : "", rest ? rest : "") < 0) {
		found->append = NULL;
		return err_set(err, "out of memory");
	}
	if (add)
		fputs("avant run: console=ttyS0 is added to the kernel's command line, which names no serial port\n",
		      stderr);
	config->append = found->append;
	return 0;
}

/* Archives and directories can be translated and looked at, but no guest can have one as its disk. */
static int check_format(struct image *image, const char *path, struct err *err)
{
	const struct image_info *info = image_info(image, err);

	if (!info)
		return -1;
	if (!strcmp(info->format, "archive"))
		return err_set(err, "'%s' is an archive, not a disk", path);
	if (!strcmp(info->format, "directory"))
		return err_set(err, "'%s' is a directory, not a disk", path);
	return 0;
}

static void say_what(const struct image_boot *boot)
{
	for (u32 i = 0; i < boot->note_count; i++) {
		fputs("avant run: passed over: ", stderr);
		image_tool_print(stderr, boot->note[i]);
		putc('\n', stderr);
	}
	fputs("avant run: booting '", stderr);
	image_tool_print(stderr, boot->title);
	fputs("' (", stderr);
	image_tool_print(stderr, boot->source);
	fputs("; ", stderr);
	image_tool_print(stderr, boot->why);
	fputs(")\n", stderr);
}

int run_image_find(struct run_image *found, struct vm_config *config, struct err *err)
{
	const char *path = config->disks[0].config.path;
	struct image_boot boot;

	*found = (struct run_image){0};
	if (config->kernel_path && config->append)
		return 0;
	found->image = image_open(path, NULL, err);
	if (!found->image || check_format(found->image, path, err) < 0 || image_find_boot(found->image, &boot, err) < 0)
		return -1;
	say_what(&boot);
	if (!config->append && take_cmdline(found, config, &boot, err) < 0)
		return -1;
	if (config->kernel_path)
		return 0;
	if (image_open_boot(found->image, &boot, &found->kernel, &found->initrd, err) < 0)
		return -1;
	image_stop(found->image);
	config->kernel = &found->kernel;
	if (!config->initrd_path && found->initrd.size)
		config->initrd = &found->initrd;
	return 0;
}

void run_image_release(struct run_image *found)
{
	blob_release(&found->kernel);
	blob_release(&found->initrd);
	image_close(found->image);
	free(found->append);
	*found = (struct run_image){0};
}
