/* Parsing of options by a table. */
#include "command.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

struct sample {
	const char *name;
	u64 size, count;
	double seconds;
	bool flag;
};

static struct sample seen;
static int runs;

static int sample_main(const struct command *command, void *options)
{
	(void)command;
	seen = *(struct sample *)options;
	runs++;
	return 42;
}

static const struct option_spec options[] = {
	{.help = "Heading"},
	{"name", "TEXT", "a text", NULL, option_text, offsetof(struct sample, name)},
	{"size", "SIZE", "a size", "3K", option_size, offsetof(struct sample, size)},
	{"count", "N", "a count", NULL, option_count, offsetof(struct sample, count)},
	{"seconds", "S", "a time", NULL, option_seconds, offsetof(struct sample, seconds)},
	{"flag", NULL, "a flag", NULL, NULL, offsetof(struct sample, flag)},
	{0},
};

static const struct command sample = {
	.name = "sample",
	.options = options,
	.options_size = sizeof(struct sample),
	.main = sample_main,
};

#define PARSE(...) parse((const char *[]){"sample", ##__VA_ARGS__, NULL})

static int parse(const char **arguments)
{
	int count = 0;

	while (arguments[count])
		count++;
	runs = 0;
	return command_main(&sample, count, (char **)arguments);
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(PARSE(), 42);
	assert_null(seen.name);
	assert_int_equal(seen.size, 3072);
	assert_int_equal(seen.count, 0);
	assert_false(seen.flag);
}

static void test_both_spellings(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--name", "a", "--flag"), 42);
	assert_string_equal(seen.name, "a");
	assert_true(seen.flag);
	assert_int_equal(PARSE("--name=b=c"), 42);
	assert_string_equal(seen.name, "b=c");
	assert_int_equal(PARSE("--name="), 42);
	assert_string_equal(seen.name, "");
	/* what looks like an option is an argument where one is due; the last one counts */
	assert_int_equal(PARSE("--name", "first", "--name", "--flag"), 42);
	assert_string_equal(seen.name, "--flag");
	assert_false(seen.flag);
}

static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--nam", "a"), STATUS_USAGE);
	assert_int_equal(PARSE("--names", "a"), STATUS_USAGE);
	assert_int_equal(PARSE("-name"), STATUS_USAGE);
	assert_int_equal(PARSE("--"), STATUS_USAGE);
	assert_int_equal(PARSE("--=x"), STATUS_USAGE);
	assert_int_equal(PARSE(""), STATUS_USAGE);
	assert_int_equal(PARSE("word"), STATUS_USAGE);
	assert_int_equal(PARSE("--name"), STATUS_USAGE);
	assert_int_equal(PARSE("--flag=yes"), STATUS_USAGE);
	assert_int_equal(PARSE("--size", "x", "--flag"), STATUS_USAGE);
	assert_int_equal(runs, 0);
}

static void check_size(const char *text, bool good, u64 expected)
{
	struct err err = ERR_INIT;
	u64 value = 0;

	assert_int_equal(option_size(&value, text, &err), good ? 0 : -1);
	if (good)
		assert_int_equal(value, expected);
	else
		assert_string_not_equal(err.text, "");
}

struct words {
	struct command_arguments words;
	bool flag;
};

static char words_seen[64];

static int words_main(const struct command *command, void *options_seen)
{
	const struct words *o = options_seen;

	(void)command;
	words_seen[0] = '\0';
	for (size_t i = 0; i < o->words.count; i++) {
		strcat(words_seen, o->words.items[i]);
		strcat(words_seen, ";");
	}
	return o->flag ? 44 : 43;
}

static const struct option_spec words_options[] = {
	{"flag", NULL, "a flag", NULL, NULL, offsetof(struct words, flag)},
	{0},
};

static const struct command words = {
	.name = "group words",
	.options = words_options,
	.options_size = sizeof(struct words),
	.arguments_needed = 2,
	.arguments = "WORD...",
	.arguments_offset = offsetof(struct words, words),
	.main = words_main,
};

static const struct command *const group_commands[] = {&sample, &words, NULL};
static const struct command group = {.name = "group", .commands = group_commands};

#define GROUP(...) parse_group((const char *[]){"group", ##__VA_ARGS__, NULL})

static int parse_group(const char **arguments)
{
	int count = 0;

	while (arguments[count])
		count++;
	return command_main(&group, count, (char **)arguments);
}

static void test_words(void **state)
{
	(void)state;
	assert_int_equal(GROUP("words", "a", "b"), 43);
	assert_string_equal(words_seen, "a;b;");
	assert_int_equal(GROUP("words", "a", "--flag", "-", "", "c"), 44);
	assert_string_equal(words_seen, "a;-;;c;");
	/* after -- nothing is an option */
	assert_int_equal(GROUP("words", "a", "--", "--flag", "--", "--help"), 43);
	assert_string_equal(words_seen, "a;--flag;--;--help;");
	assert_int_equal(GROUP("words"), STATUS_USAGE);
	assert_int_equal(GROUP("words", "a"), STATUS_USAGE);
	assert_int_equal(GROUP("words", "a", "--flag"), STATUS_USAGE);
	assert_int_equal(GROUP("words", "a", "b", "-c"), STATUS_USAGE);
	assert_int_equal(GROUP("words", "a", "b", "--flags"), STATUS_USAGE);
}

static void test_group(void **state)
{
	(void)state;
	assert_int_equal(GROUP("sample"), 42);
	assert_int_equal(GROUP(), STATUS_USAGE);
	assert_int_equal(GROUP("sampl"), STATUS_USAGE);
	assert_int_equal(GROUP("group words"), STATUS_USAGE);
	assert_int_equal(GROUP("--flag"), STATUS_USAGE);
	assert_int_equal(GROUP(""), STATUS_USAGE);
}

static void test_sizes(void **state)
{
	(void)state;
	check_size("0", true, 0);
	check_size("4096", true, 4096);
	check_size("1k", true, 1024);
	check_size("512M", true, 512ULL << 20);
	check_size("4G", true, 4ULL << 30);
	check_size("2T", true, 2ULL << 40);
	check_size("18446744073709551615", true, UINT64_MAX);
	check_size("18446744073709551616", false, 0);
	check_size("16777216T", false, 0);
	check_size("", false, 0);
	check_size("K", false, 0);
	check_size(" 1", false, 0);
	check_size("+1", false, 0);
	check_size("-1", false, 0);
	check_size("0x10", false, 0);
	check_size("1.5G", false, 0);
	check_size("1KB", false, 0);
	check_size("1 K", false, 0);
}

static void test_counts_are_decimal(void **state)
{
	u64 value;

	(void)state;
	assert_int_equal(option_count(&value, "200M", NULL), 0);
	assert_int_equal(value, 200000000);
}

static void test_seconds(void **state)
{
	static const char *const bad[] = {"", "0", "-1", "nan", "inf", "1s", "1e10", ".", " 1"};
	double value;

	(void)state;
	assert_int_equal(option_seconds(&value, "0.25", NULL), 0);
	assert_true(value == 0.25);
	assert_int_equal(option_seconds(&value, "90", NULL), 0);
	assert_true(value == 90);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(option_seconds(&value, bad[i], NULL), -1);
}

static void test_choices(void **state)
{
	static const char *const names[] = {"red", "green", NULL};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(option_choice(names, "green", &err), 1);
	assert_int_equal(option_choice(names, "gree", &err), -1);
	assert_string_equal(err.text, "'gree' is none of: red, green");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_both_spellings),
		cmocka_unit_test(test_refused),  cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_seconds),  cmocka_unit_test(test_counts_are_decimal),
		cmocka_unit_test(test_choices),  cmocka_unit_test(test_words),
		cmocka_unit_test(test_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
