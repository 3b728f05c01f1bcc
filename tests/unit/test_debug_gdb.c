/* The gdb server's framing, registers and addresses, and the table of breakpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cpu/fpu.h"
#include "cpu/vcpu.h"
#include "debug/debugger.h"
#include "debug/gdb_packet.h"
#include "debug/gdb_registers.h"
#include "debug/gdb_server.h"

/* --- packets ----------------------------------------------------------------------------------------------------- */

static struct gdb_link link_here;
static int other;

static int open_pair(void **state)
{
	int fds[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return -1;
	gdb_link_open(&link_here, fds[0]);
	other = fds[1];
	return 0;
}

static int close_pair(void **state)
{
	(void)state;
	close(link_here.fd);
	if (other >= 0)
		close(other);
	return 0;
}

static void put(const void *bytes, size_t length)
{
	assert_int_equal(write(other, bytes, length), (ssize_t)length);
}

static void put_text(const char *text)
{
	put(text, strlen(text));
}

static void expect_sent(const char *text)
{
	char bytes[256] = "";
	ssize_t n = recv(other, bytes, sizeof(bytes) - 1, MSG_DONTWAIT);

	assert_int_equal(n < 0 ? 0 : n, strlen(text));
	assert_string_equal(bytes, text);
}

static void test_packets(void **state)
{
	(void)state;
	assert_int_equal(gdb_link_receive(&link_here), GDB_NOTHING);
	put_text("+$m10,4#2e$g#6");
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
	assert_string_equal((char *)link_here.packet, "m10,4");
	assert_true(gdb_link_has_input(&link_here));
	assert_int_equal(gdb_link_receive(&link_here), GDB_NOTHING);
	assert_false(gdb_link_has_input(&link_here));
	put_text("7");
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
	assert_string_equal((char *)link_here.packet, "g");
	expect_sent("++");
}

static void test_wrong_checksum(void **state)
{
	(void)state;
	put_text("$g#68$g#zz$g#67");
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
	expect_sent("--+");
}

static void test_interrupt(void **state)
{
	(void)state;
	put_text("\x03$g\x03#6a");
	assert_int_equal(gdb_link_receive(&link_here), GDB_INTERRUPT);
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET); /* within a packet it is content */
	assert_int_equal(link_here.length, 2);
}

static void test_escapes(void **state)
{
	u8 all[256], packet[11] = {'$', 'X', '}', 0x03, '}', 0x5d, 0, '#'};
	u8 sum = 0;
	struct gdb_link back;

	(void)state;
	for (size_t i = 1; i < 7; i++)
		sum = (u8)(sum + packet[i]);
	snprintf((char *)packet + 8, 3, "%02x", sum);
	put(packet, 10);
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
	assert_memory_equal(link_here.packet, "X#}\0", 4);
	expect_sent("+");
	/* what is sent is what the other side takes */
	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = (u8)i;
	gdb_link_send(&link_here, all, sizeof(all));
	gdb_link_open(&back, other);
	assert_int_equal(gdb_link_receive(&back), GDB_PACKET);
	assert_int_equal(back.length, sizeof(all));
	assert_memory_equal(back.packet, all, sizeof(all));
}

static void test_too_long(void **state)
{
	u8 bytes[1024];

	(void)state;
	memset(bytes, 'a', sizeof(bytes));
	put_text("$");
	for (unsigned i = 0; i < GDB_PACKET_MAX / sizeof(bytes); i++) {
		put(bytes, sizeof(bytes));
		assert_int_equal(gdb_link_receive(&link_here), GDB_NOTHING);
	}
	put_text("b#62"); /* the sum of the others is a multiple of 256 */
	assert_int_equal(gdb_link_receive(&link_here), GDB_NOTHING);
	expect_sent("-");
	put_text("$g#67");
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
}

static void test_closed(void **state)
{
	(void)state;
	put_text("$g#67");
	close(other);
	other = -1;
	assert_int_equal(gdb_link_receive(&link_here), GDB_PACKET);
	assert_int_equal(gdb_link_receive(&link_here), GDB_CLOSED);
	gdb_link_send(&link_here, "OK", 2); /* no SIGPIPE */
	assert_int_equal(gdb_link_receive(&link_here), GDB_CLOSED);
}

static void test_numbers(void **state)
{
	const char *text = "fFffffffffffffff,0";
	u8 bytes[4];
	u64 value;

	(void)state;
	assert_true(gdb_parse_number(&text, &value));
	assert_int_equal(value, UINT64_MAX);
	assert_string_equal(text, ",0");
	assert_false(gdb_parse_number(&text, &value));
	text = "10000000000000000";
	assert_false(gdb_parse_number(&text, &value));
	assert_int_equal(gdb_parse_hex("0aFf1", bytes, sizeof(bytes)), 2);
	assert_int_equal(bytes[0], 0x0a);
	assert_int_equal(bytes[1], 0xff);
	assert_int_equal(gdb_parse_hex("0102030405", bytes, sizeof(bytes)), 4);
}

/* --- registers --------------------------------------------------------------------------------------------------- */

static unsigned find(const char *name)
{
	for (unsigned n = 0; n < gdb_register_count(); n++)
		if (!strcmp(gdb_register_name(n), name))
			return n;
	fail_msg("no register %s", name);
	return 0;
}

static u64 read_u64(struct vcpu *v, const char *name)
{
	u8 bytes[GDB_REGISTER_BYTES] = {0};
	u64 value;

	gdb_register_read(v, find(name), bytes);
	memcpy(&value, bytes, sizeof(value));
	return value;
}

static bool write_u64(struct vcpu *v, const char *name, u64 value)
{
	u8 bytes[GDB_REGISTER_BYTES] = {0};

	memcpy(bytes, &value, sizeof(value));
	return gdb_register_write(v, find(name), bytes);
}

static struct vcpu vcpu_of_test;

static struct vcpu *fresh(void)
{
	struct vcpu *v = &vcpu_of_test;

	memset(v, 0, sizeof(*v));
	memset(v->xsave, 0xa5, FXSAVE_SIZE); /* left over: the header says that nothing is in there */
	memcpy(v->xsave + FXSAVE_MXCSR, &(u32){MXCSR_DEFAULT}, 4);
	return v;
}

static void test_general_registers(void **state)
{
	struct vcpu *v = fresh();

	(void)state;
	v->gpr[RBX] = 0x1122334455667788;
	v->gpr[R15] = 15;
	v->rip = 0xffffffff81000000;
	v->seg[SEG_CS].selector = 0x33;
	assert_int_equal(read_u64(v, "rbx"), 0x1122334455667788);
	assert_int_equal(read_u64(v, "r15"), 15);
	assert_int_equal(read_u64(v, "rip"), 0xffffffff81000000);
	assert_int_equal(read_u64(v, "cs"), 0x33);
	assert_true(write_u64(v, "rbp", 7));
	assert_int_equal(v->gpr[RBP], 7);
	assert_false(write_u64(v, "cs", 0x10));
	assert_true(write_u64(v, "cs", 0x33)); /* as it is */
	assert_false(write_u64(v, "rip", 1ULL << 63));
	assert_int_equal(v->rip, 0xffffffff81000000);
}

static void test_bases(void **state)
{
	struct vcpu *v = fresh();

	(void)state;
	assert_true(write_u64(v, "fs_base", 0x7fff00000000));
	assert_int_equal(v->fs_base, 0x7fff00000000);
	assert_int_equal(v->seg[SEG_FS].base, 0x7fff00000000);
	assert_false(write_u64(v, "gs_base", 0x800000000000));
	assert_int_equal(v->gs_base, 0);
}

static void test_vector_registers_in_their_initial_state(void **state)
{
	struct vcpu *v = fresh();
	u8 bytes[GDB_REGISTER_BYTES], ones[GDB_REGISTER_BYTES];
	u64 present;

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (unsigned n = find("xmm0"); n <= find("xmm15"); n++) {
		gdb_register_read(v, n, bytes);
		assert_memory_equal(bytes, (u8[GDB_REGISTER_BYTES]){0}, GDB_REGISTER_BYTES);
	}
	assert_int_equal(read_u64(v, "mxcsr"), MXCSR_DEFAULT);
	assert_int_equal(read_u64(v, "fctrl"), FCW_DEFAULT);
	assert_int_equal(read_u64(v, "ftag"), 0xffff);
	assert_true(gdb_register_write(v, find("xmm7"), ones));
	gdb_register_read(v, find("xmm7"), bytes);
	assert_memory_equal(bytes, ones, sizeof(bytes));
	memcpy(&present, v->xsave + XSAVE_XSTATE_BV, sizeof(present));
	assert_int_equal(present & 3, 3);
	assert_true(write_u64(v, "mxcsr", 0xffffffff)); /* XRSTOR must not fault on it */
	assert_int_equal(read_u64(v, "mxcsr"), MXCSR_DEFINED);
}

static void test_description(void **state)
{
	char *xml = gdb_registers_xml();
	unsigned registers = 0, features = 0;

	(void)state;
	assert_non_null(xml);
	for (const char *at = xml; (at = strstr(at, "<reg ")); at++)
		registers++;
	for (const char *at = xml; (at = strstr(at, "<feature ")); at++)
		features++;
	assert_int_equal(registers, gdb_register_count());
	assert_int_equal(features, 4);
	assert_non_null(strstr(xml, "<reg name=\"st0\" bitsize=\"80\""));
	assert_int_equal(gdb_register_size(gdb_register_count()), 0);
	for (unsigned n = 0; n < gdb_register_count(); n++)
		assert_in_range(gdb_register_size(n), 4, GDB_REGISTER_BYTES);
	free(xml);
}

/* --- addresses and breakpoints ----------------------------------------------------------------------------------- */

static void test_addresses(void **state)
{
	static const char *const bad[] = {"", ":", "1234", ":x", ":65536", ":-1", "host:", ":1x", ": 1"};
	struct gdb_address address;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(gdb_address_parse(":1234", &address, &err), 0);
	assert_string_equal(address.host, "127.0.0.1");
	assert_string_equal(address.port, "1234");
	assert_int_equal(gdb_address_parse("[::1]:0", &address, &err), 0);
	assert_string_equal(address.host, "::1");
	assert_int_equal(gdb_address_parse("box:65535", &address, &err), 0);
	assert_string_equal(address.host, "box");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(gdb_address_parse(bad[i], &address, &err), -1);
}

static void test_breakpoints(void **state)
{
	struct debugger *d = calloc(1, sizeof(*d));
	struct vcpu *v = fresh();
	enum debugger_stop why;

	(void)state;
	assert_int_equal(debugger_add_breakpoint(d, 0x5010), 0);
	assert_int_equal(debugger_add_breakpoint(d, 0x5010), 0);
	assert_int_equal(d->count, 1);
	assert_true(debugger_single_steps(d, 0x5fff));
	assert_false(debugger_single_steps(d, 0x6000));
	v->rip = 0x5010;
	d->resumed_rip = 0x5010; /* goes on from here … */
	assert_false(debugger_stops(d, v, &why));
	v->icount++; /* … and comes by again */
	assert_true(debugger_stops(d, v, &why));
	assert_int_equal(why, DEBUGGER_STOP_BREAKPOINT);
	debugger_remove_breakpoint(d, 0x5011);
	assert_int_equal(d->count, 1);
	debugger_remove_breakpoint(d, 0x5010);
	assert_false(debugger_single_steps(d, 0x5010));
	assert_false(debugger_stops(d, v, &why));
	free(d);
}

static void test_step(void **state)
{
	struct debugger *d = calloc(1, sizeof(*d));
	struct vcpu *v = fresh();
	enum debugger_stop why;

	(void)state;
	d->stepping = true;
	assert_true(debugger_single_steps(d, 1));
	assert_true(debugger_holds_interrupts(d));
	assert_false(debugger_stops(d, v, &why));
	assert_true(debugger_stops(d, v, &why));
	assert_int_equal(why, DEBUGGER_STOP_STEP);
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_packets, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_wrong_checksum, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_interrupt, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_escapes, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_too_long, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(test_closed, open_pair, close_pair),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_general_registers),
		cmocka_unit_test(test_bases),
		cmocka_unit_test(test_vector_registers_in_their_initial_state),
		cmocka_unit_test(test_description),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_breakpoints),
		cmocka_unit_test(test_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
