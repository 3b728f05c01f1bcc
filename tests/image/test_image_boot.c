/* What would be booted, by each kind of configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trees.h"

#define KERNELS                                                                                                        \
	"/boot/vmlinuz-6.1.0-9", "/boot/vmlinuz-6.1.0-10", "/boot/initrd.img-6.1.0-9", "/boot/initrd.img-6.1.0-10",    \
		"/boot/vmlinuz-6.1.0-11-rescue"

static void one_disk(struct test_space *t)
{
	static const char *const files[] = {KERNELS};

	test_begin(t);
	test_add_volume(t, 0, "aaaa-bbbb", "root");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		test_write(t, 0, files[i], "x");
	test_write(t, 0, "/etc/fstab", "UUID=aaaa-bbbb / ext4 defaults 0 1\n");
}

/* What boot_find() says, in one text: title, kernel, initramfs files, command line. */
static void expect(struct test_space *t, const char *expected)
{
	struct err err = ERR_INIT;
	struct boot boot;
	char text[2048];
	size_t used;

	if (boot_find(&t->space, &boot, &err) < 0) {
		snprintf(text, sizeof(text), "error: %s", err.text);
	} else {
		used = (size_t)snprintf(text, sizeof(text), "%s|%u:%s|", boot.title, boot.kernel.volume,
					boot.kernel.path);
		for (u32 i = 0; i < boot.initrd_count; i++)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u:%s", i ? " " : "",
						 boot.initrd[i].volume, boot.initrd[i].path);
		snprintf(text + used, sizeof(text) - used, "|%s", boot.cmdline);
	}
	boot_release(&boot);
	assert_string_equal(text, expected);
}

static void grub(const char *script, const char *expected)
{
	struct test_space t;

	one_disk(&t);
	t.space.volumes.root = 0;
	test_write(&t, 0, "/boot/grub/grub.cfg", script);
	expect(&t, expected);
	test_end(&t);
}

#define ENTRY(title, version)                                                                                          \
	"menuentry '" title "' --class debian $menuentry_id_option 'id-" title "' {\n"                                 \
	"	linux /boot/vmlinuz-6.1.0-" version " root=UUID=aaaa-bbbb ro\n"                                        \
	"	initrd /boot/initrd.img-6.1.0-" version "\n"                                                           \
	"}\n"
#define IDS "menuentry_id_option=--id\n"

#define BOOTS_9(title)  title "|0:/boot/vmlinuz-6.1.0-9|0:/boot/initrd.img-6.1.0-9|root=UUID=aaaa-bbbb ro"
#define BOOTS_10(title) title "|0:/boot/vmlinuz-6.1.0-10|0:/boot/initrd.img-6.1.0-10|root=UUID=aaaa-bbbb ro"
#define NEWEST          "vmlinuz-6.1.0-10|0:/boot/vmlinuz-6.1.0-10|0:/boot/initrd.img-6.1.0-10|root=UUID=aaaa-bbbb ro"

static void grub_defaults(void **state)
{
	(void)state;
	grub(IDS ENTRY("a", "9") ENTRY("b", "10"), BOOTS_9("a"));
	grub(IDS "set default=1\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_10("b"));
	grub(IDS "set default=\"b\"\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_10("b"));
	grub(IDS "default=id-b\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_10("b"));
	grub(IDS "set default=nothing\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_9("a"));
	grub(IDS "set default=7\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_9("a"));
	/* the default may be set behind the entries */
	grub(IDS ENTRY("a", "9") ENTRY("b", "10") "set default=1\n", BOOTS_10("b"));
}

static void grub_submenus(void **state)
{
	static const char menu[] =
		IDS ENTRY("a", "9") "submenu 'more > x' $menuentry_id_option 'sub' {\n" ENTRY("b", "9")
			ENTRY("c", "10") "}\n";
	char script[2048];

	(void)state;
	grub(IDS "set default='1>1'\nsubmenu s {\n}\n" ENTRY("a", "9"), BOOTS_9("a"));
	snprintf(script, sizeof(script), "set default='1>1'\n%s", menu);
	grub(script, BOOTS_10("c"));
	snprintf(script, sizeof(script), "set default='sub>id-c'\n%s", menu);
	grub(script, BOOTS_10("c"));
	snprintf(script, sizeof(script), "set default='more >> x>c'\n%s", menu);
	grub(script, BOOTS_10("c"));
	snprintf(script, sizeof(script), "set default=sub\n%s", menu);
	grub(script, BOOTS_9("b"));
}

static void grub_words_and_variables(void **state)
{
	(void)state;
	grub("set v=9\nset a=\"root=UUID=aaaa-bbbb   ro\"\nmenuentry \"x $v\" {\nlinux /boot/vmlinuz-6.1.0-${v} $a\n"
	     "initrd \"/boot/initrd.img-6.1.0-$v\"\n}\n",
	     BOOTS_9("x 9"));
	grub("menuentry a{linux /boot/vmlinuz-6.1.0-9 \"x=a b\" 'y=$v' z=\\$1 \\\n  last; }\n",
	     "a|0:/boot/vmlinuz-6.1.0-9||\"x=a b\" y=$v z=$1 last");
	grub("menuentry a b c { linux /boot/vmlinuz-6.1.0-9 $1 $2 $3 $# \"$*\" }\n",
	     "a|0:/boot/vmlinuz-6.1.0-9||a b c 3 \"a b c\"");
	grub("menuentry a { linux /boot/vmlinuz-6.1.0-9 x=\\\"a b\\\" }\n", "a|0:/boot/vmlinuz-6.1.0-9||x=\\\"a b\\\"");
	grub("menuentry 'it''s' { linux /boot/vmlinuz-6.1.0-9 # no\n}\n", "its|0:/boot/vmlinuz-6.1.0-9||");
	grub("menuentry a { linux /boot/vmlinuz-6.1.0-9 a#b \"\" c }\n", "a|0:/boot/vmlinuz-6.1.0-9||a#b  c");
}

static void grub_control_flow(void **state)
{
	static const struct {
		const char *condition;
		bool holds;
	} cases[] = {
		{"[ a = a ]", true},
		{"[ a = b ]", false},
		{"[ \"$none\" ]", false},
		{"[ x\"$none\" = x ]", true},
		{"[ -n \"\" ]", false},
		{"[ -z \"$none\" ]", true},
		{"test 10 -gt 9", true},
		{"[ 10 -lt 9 ]", false},
		{"[ ! a = b ]", true},
		{"[ a = b -o c = c ]", true},
		{"[ a = a -a c = d ]", false},
		{"[ ( a = b -o c = c ) -a d = d ]", true},
		{"[ -f /boot/vmlinuz-6.1.0-9 ]", true},
		{"[ -f /boot/none ]", false},
		{"[ -d /boot ]", true},
		{"[ -e /boot/grub ]", true},
		{"[ -s $prefix/grub.cfg ]", true},
		{"true", true},
		{"false", false},
		{"unknown_command x", false},
		{"[ $grub_platform = pc ]", true},
		{"[ x$feature_default_font_path = xy ]", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char script[1024];

		snprintf(script, sizeof(script),
			 IDS "if %s; then\n default=0\nelse\n default=1\nfi\n" ENTRY("yes", "9") ENTRY("no", "10"),
			 cases[i].condition);
		print_message("%s\n", cases[i].condition);
		grub(script, cases[i].holds ? BOOTS_9("yes") : BOOTS_10("no"));
	}
	grub(IDS "if false; then default=0; elif true; then default=1; else default=0; fi\n" ENTRY("a", "9")
		     ENTRY("b", "10"),
	     BOOTS_10("b"));
	grub(IDS "for x in 0 1; do set default=$x; done\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_10("b"));
	grub(IDS "default=0\nwhile [ $default != 1 ]; do default=1; done\n" ENTRY("a", "9") ENTRY("b", "10"),
	     BOOTS_10("b"));
	grub(IDS "default=1\nuntil true; do default=0; done\n" ENTRY("a", "9") ENTRY("b", "10"), BOOTS_10("b"));
	grub(IDS "function choose {\n set default=$1\n return\n set default=0\n}\nchoose 1\n" ENTRY("a", "9")
		     ENTRY("b", "10"),
	     BOOTS_10("b"));
}

static void grub_files(void **state)
{
	struct test_space t;

	(void)state;
	one_disk(&t);
	test_write(&t, 0, "/boot/grub/grub.cfg",
		   IDS "if [ -s $prefix/grubenv ]; then load_env; fi\nset default=\"${saved_entry}\"\n"
		       "source $prefix/custom.cfg\n");
	test_write(&t, 0, "/boot/grub/custom.cfg", ENTRY("a", "9") ENTRY("b", "10"));
	test_write(&t, 0, "/boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=id-b\n####");
	expect(&t, BOOTS_10("b"));
	test_write(&t, 0, "/boot/grub/grub.cfg", "configfile /boot/grub/other.cfg\nmenuentry never { linux /x\n }\n");
	test_write(&t, 0, "/boot/grub/other.cfg", IDS ENTRY("o", "9"));
	expect(&t, BOOTS_9("o"));
	/* round and round: given up, and the newest kernel is taken */
	test_write(&t, 0, "/boot/grub/other.cfg", "configfile $prefix/grub.cfg");
	expect(&t, NEWEST);
	test_write(&t, 0, "/boot/grub/grub.cfg", "source $prefix/grub.cfg\n");
	expect(&t, NEWEST);
	test_end(&t);
}

static void grub_partitions(void **state)
{
	struct test_space t;

	(void)state;
	test_begin(&t);
	test_add_volume(&t, 14, "1111", "");
	test_add_volume(&t, 1, "2222", "cloudimg-rootfs");
	test_add_volume(&t, 16, "3333", "BOOT");
	t.space.volumes.root = 1;
	strcpy(t.space.volumes.volume[1].mount, "/");
	strcpy(t.space.volumes.volume[2].mount, "/boot");
	test_write(&t, 1, "/etc/fstab",
		   "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\n");
	test_write(&t, 2, "/vmlinuz-6.8.0", "x");
	test_write(&t, 2, "/initrd.img-6.8.0", "x");
	test_write(&t, 2, "/grub/grub.cfg",
		   "menuentry u {\n search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt16 3333\n"
		   " linux /vmlinuz-6.8.0 root=LABEL=cloudimg-rootfs ro\n initrd /initrd.img-6.8.0\n}\n");
	expect(&t, "u|2:/vmlinuz-6.8.0|2:/initrd.img-6.8.0|root=LABEL=cloudimg-rootfs ro");
	test_write(&t, 2, "/grub/grub.cfg",
		   "menuentry d {\n linux (hd0,gpt16)/vmlinuz-6.8.0 a\n initrd (hd0,16)/initrd.img-6.8.0\n}\n");
	expect(&t, "d|2:/vmlinuz-6.8.0|2:/initrd.img-6.8.0|a");
	test_write(&t, 2, "/grub/grub.cfg",
		   "search --file --set=there /etc/fstab\nprobe --set=u --fs-uuid $there\n"
		   "menuentry \"$root $there $u\" { linux /vmlinuz-6.8.0\n }\n");
	expect(&t, "hd0,gpt16 hd0,gpt1 2222|2:/vmlinuz-6.8.0||");
	/* without GRUB: the kernel of /boot's own partition, the root of the fstab */
	test_write(&t, 2, "/grub/grub.cfg", "menuentry x { linux (hd1,gpt1)/vmlinuz\n }\n");
	expect(&t, "vmlinuz-6.8.0|2:/vmlinuz-6.8.0|2:/initrd.img-6.8.0|root=LABEL=cloudimg-rootfs ro");
	test_end(&t);
}

/* What does not serve is passed over, whatever is wrong with it. */
static void grub_errors(void **state)
{
	static const char *const scripts[] = {
		"",
		"menuentry a {",
		"}",
		"if true; then",
		"if true; fi",
		"menuentry 'a",
		"menuentry \"a",
		"menuentry ${a",
		"a | b",
		"menuentry a { chainloader +1\n }",
		"menuentry a { linux /boot/none\n }",
		"menuentry a { linux /boot\n }",
		"menuentry a { linux /boot/vmlinuz-6.1.0-9\n initrd /boot/none\n }",
		"menuentry a { linux /boot/vmlinuz-6.1.0-9\n initrd newc:x:/boot/initrd.img-6.1.0-9\n }",
		"menuentry a { linux (lvm/x)/boot/vmlinuz-6.1.0-9\n }",
		"menuentry a { }",
		"submenu a { }",
		"while true; do true; done",
		"function f { f; }; f",
		"set x=aaaaaaaaaaaaaaaa\nwhile true; do set x=$x$x; done",
		"while true; do menuentry a { }; done",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		print_message("%s\n", scripts[i]);
		grub(scripts[i], NEWEST);
	}
}

static void extlinux(void **state)
{
	struct test_space t;

	(void)state;
	one_disk(&t);
	test_write(&t, 0, "/boot/extlinux/extlinux.conf",
		   "# comment\nDEFAULT second\nTIMEOUT 1\nAPPEND global\n\nlabel first\n\tmenu label ^First\n"
		   "\tkernel /boot/vmlinuz-6.1.0-9\n\tappend root=/dev/vda\n\tinitrd ../initrd.img-6.1.0-9\n\n"
		   "label second\n\tmenu label ^Second one\n\tlinux ../vmlinuz-6.1.0-10\n");
	expect(&t, "Second one|0:/boot/extlinux/../vmlinuz-6.1.0-10||global");
	test_write(&t, 0, "/boot/extlinux/extlinux.conf",
		   "default nothing\nlabel a\n kernel /boot/vmlinuz-6.1.0-9\n"
		   " append initrd=/boot/initrd.img-6.1.0-9,/boot/initrd.img-6.1.0-10 quiet\n");
	expect(&t, "a|0:/boot/vmlinuz-6.1.0-9|0:/boot/initrd.img-6.1.0-9 0:/boot/initrd.img-6.1.0-10|"
		   "initrd=/boot/initrd.img-6.1.0-9,/boot/initrd.img-6.1.0-10 quiet");
	test_write(&t, 0, "/boot/extlinux/extlinux.conf", "include more.conf\ndefault b\n");
	test_write(&t, 0, "/boot/extlinux/more.conf",
		   "append g\nlabel a\n kernel /x\nlabel b\n kernel /boot/vmlinuz-6.1.0-9\n append -\n");
	expect(&t, "b|0:/boot/vmlinuz-6.1.0-9||");
	test_write(&t, 0, "/boot/extlinux/more.conf",
		   "label a\n kernel /x\nlabel b\n menu default\n kernel /boot/vmlinuz-6.1.0-10\n");
	test_write(&t, 0, "/boot/extlinux/extlinux.conf", "default a\ninclude more.conf\n");
	expect(&t, "b|0:/boot/vmlinuz-6.1.0-10||");
	test_write(&t, 0, "/boot/extlinux/extlinux.conf", "include extlinux.conf\n");
	expect(&t, NEWEST);
	test_write(&t, 0, "/boot/extlinux/extlinux.conf", "label a\n localboot 0\n");
	expect(&t, NEWEST);
	test_end(&t);
}

static void boot_loader_entries(void **state)
{
	struct test_space t;

	(void)state;
	one_disk(&t);
	test_write(&t, 0, "/loader/entries/m-6.1.0-9.conf",
		   "title Nine\nversion 6.1.0-9\nlinux /boot/vmlinuz-6.1.0-9\ninitrd /boot/initrd.img-6.1.0-9\n"
		   "options root=UUID=aaaa-bbbb\noptions ro\n");
	test_write(&t, 0, "/loader/entries/m-6.1.0-10.conf",
		   "title\tTen  \nversion 6.1.0-10\nlinux /boot/vmlinuz-6.1.0-10\n"
		   "initrd /boot/initrd.img-6.1.0-10\noptions root=UUID=aaaa-bbbb ro\n");
	test_write(&t, 0, "/loader/entries/m-6.1.0-11.conf",
		   "title Arm\narchitecture aa64\nlinux /boot/vmlinuz-6.1.0-9\n");
	test_write(&t, 0, "/loader/entries/m-6.1.0-12.conf", "title Unified\nefi /EFI/Linux/x.efi\n");
	test_write(&t, 0, "/loader/entries/m-6.1.0-13+0-3.conf", "title Bad\nlinux /boot/vmlinuz-6.1.0-9\n");
	test_write(&t, 0, "/loader/entries/README", "nothing");
	expect(&t, BOOTS_10("Ten"));
	test_write(&t, 0, "/loader/loader.conf", "timeout 3\ndefault m-*-9.conf\n");
	expect(&t, BOOTS_9("Nine"));
	test_write(&t, 0, "/loader/entries/a.conf", "title Keyed\nsort-key a\nlinux /boot/vmlinuz-6.1.0-9\n");
	test_write(&t, 0, "/loader/loader.conf", "");
	expect(&t, "Keyed|0:/boot/vmlinuz-6.1.0-9||");
	/* through GRUB, whose variables are in the options */
	test_write(&t, 0, "/loader/entries/a.conf",
		   "title Keyed\nlinux /boot/vmlinuz-6.1.0-9\noptions $kernelopts x\n");
	test_write(&t, 0, "/boot/grub2/grub.cfg", "set kernelopts=\"root=LABEL=x ro\"\nset default=a\nblscfg\n");
	expect(&t, "Keyed|0:/boot/vmlinuz-6.1.0-9||root=LABEL=x ro x");
	test_write(&t, 0, "/boot/grub2/grub.cfg", "blscfg\n");
	expect(&t, BOOTS_10("Ten"));
	test_end(&t);
}

static void newest_kernel(void **state)
{
	struct test_space t;

	(void)state;
	one_disk(&t);
	expect(&t, NEWEST);
	/* an fstab that calls the disk by a name it does not have here */
	test_write(&t, 0, "/etc/fstab", "/dev/sda / ext4 defaults 0 1\n");
	expect(&t, NEWEST);
	/* no initramfs: a name that the kernel itself understands */
	test_write(&t, 0, "/boot/vmlinuz-7.0", "x");
	expect(&t, "vmlinuz-7.0|0:/boot/vmlinuz-7.0||root=/dev/vda ro");
	test_end(&t);

	test_begin(&t);
	test_add_volume(&t, 0, "u", "");
	expect(&t, "error: nothing in it can be booted: no boot loader's configuration, and no kernel in /boot");
	test_write(&t, 0, "/boot/vmlinuz", "x");
	test_write(&t, 0, "/boot/initrd.img", "x");
	expect(&t, "vmlinuz|0:/boot/vmlinuz|0:/boot/initrd.img|root=UUID=u ro");
	test_end(&t);
}

/* Links lead to places in the image only. */
static void links_stay_inside(void **state)
{
	struct test_space t;
	struct image_entry entry;
	struct spot spot;
	struct err err = ERR_INIT;

	(void)state;
	one_disk(&t);
	test_write(&t, 0, "/etc/hosts", "inside");
	test_link(&t, 0, "/absolute", "/etc/hosts");
	test_link(&t, 0, "/above", "../../../../etc/hosts");
	test_link(&t, 0, "/boot/grub", "/etc");
	test_link(&t, 0, "/round", "round");
	test_link(&t, 0, "/a", "b");
	test_link(&t, 0, "/b", "/a");
	test_link(&t, 0, "/proc", "/proc/self/root");
	for (size_t i = 0; i < 5; i++) {
		static const char *const paths[] = {"/absolute", "/above", "/boot/grub/hosts", "/../../etc/hosts",
						    "boot//./grub/../etc/hosts"};
		char *text = space_text(&t.space, 0, paths[i], 100, &err);

		assert_non_null(text);
		assert_string_equal(text, "inside");
		free(text);
	}
	assert_int_equal(space_stat(&t.space, 0, "/round", true, &spot, &entry, &err), -1);
	assert_string_equal(err.text, "'/round': too many symlinks");
	assert_int_equal(space_stat(&t.space, 0, "/a", true, &spot, &entry, &err), -1);
	assert_int_equal(space_stat(&t.space, 0, "/a", false, &spot, &entry, &err), 0);
	assert_int_equal(entry.kind, IMAGE_SYMLINK);
	assert_int_equal(space_stat(&t.space, 0, "/a/", false, &spot, &entry, &err), -1);
	assert_int_equal(space_stat(&t.space, 0, "/proc/status", true, &spot, &entry, &err), -1);
	assert_int_equal(space_stat(&t.space, 0, "/etc/hosts/x", true, &spot, &entry, &err), 1);
	assert_int_equal(space_stat(&t.space, 0, "/etc/hosts/..", true, &spot, &entry, &err), 1);
	assert_int_equal(space_stat(&t.space, 0, "", true, &spot, &entry, &err), 0);
	assert_int_equal(entry.kind, IMAGE_DIRECTORY);
	test_end(&t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(grub_defaults),
		cmocka_unit_test(grub_submenus),
		cmocka_unit_test(grub_words_and_variables),
		cmocka_unit_test(grub_control_flow),
		cmocka_unit_test(grub_files),
		cmocka_unit_test(grub_partitions),
		cmocka_unit_test(grub_errors),
		cmocka_unit_test(extlinux),
		cmocka_unit_test(boot_loader_entries),
		cmocka_unit_test(newest_kernel),
		cmocka_unit_test(links_stay_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
