/* The packets of gdb's remote protocol, one function each, in one table. */
#include <stdio.h>
#include <string.h>

#include "debug/gdb_internal.h"
#include "debug/gdb_registers.h"
#include "mem/mem.h"
#include "vm.h"

/* gdb's numbers are errno values by custom; they are only shown. */
#define ERROR_ARGUMENT "E16"
#define ERROR_MEMORY   "E0e"
#define ERROR_FULL     "E1c"

typedef enum gdb_outcome command_fn(struct gdb_server *s, const char *rest);

static enum gdb_outcome answer(struct gdb_server *s, const char *text)
{
	gdb_reply_text(&s->reply, text);
	return GDB_STAY;
}

/* Moves behind the separator if it is there. */
static bool skip(const char **text, char separator)
{
	if (**text != separator)
		return false;
	++*text;
	return true;
}

/* --- general ----------------------------------------------------------------------------------------------------- */

static enum gdb_outcome supported(struct gdb_server *s, const char *rest)
{
	char text[160];

	s->swbreak = strstr(rest, "swbreak+") != NULL;
	snprintf(text, sizeof(text),
		 "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+",
		 GDB_PACKET_MAX);
	return answer(s, text);
}

static enum gdb_outcome no_ack(struct gdb_server *s, const char *rest)
{
	(void)rest;
	s->link.no_ack = true;
	return answer(s, "OK");
}

/* offset,length */
static enum gdb_outcome features(struct gdb_server *s, const char *rest)
{
	u64 offset, length, size = strlen(s->xml);

	if (!gdb_parse_number(&rest, &offset) || !skip(&rest, ',') || !gdb_parse_number(&rest, &length))
		return answer(s, ERROR_ARGUMENT);
	if (offset > size)
		return answer(s, ERROR_ARGUMENT);
	/* escaped characters take two bytes */
	if (length > GDB_PACKET_MAX / 2)
		length = GDB_PACKET_MAX / 2;
	if (length > size - offset)
		length = size - offset;
	gdb_reply_text(&s->reply, offset + length == size ? "l" : "m");
	gdb_reply_bytes(&s->reply, s->xml + offset, length);
	return GDB_STAY;
}

static enum gdb_outcome say_ok(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "OK");
}

static enum gdb_outcome attached(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "1");
}

static enum gdb_outcome current_thread(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "QC01");
}

static enum gdb_outcome first_threads(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "m01");
}

static enum gdb_outcome more_threads(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "l");
}

static enum gdb_outcome monitor(struct gdb_server *s, const char *rest)
{
	char line[256];
	size_t length = gdb_parse_hex(rest, line, sizeof(line) - 1);

	line[length] = '\0';
	enum gdb_outcome outcome = gdb_monitor(s, line);

	answer(s, "OK");
	return outcome;
}

/* --- registers --------------------------------------------------------------------------------------------------- */

static enum gdb_outcome read_registers(struct gdb_server *s, const char *rest)
{
	u8 bytes[GDB_REGISTER_BYTES];

	(void)rest;
	for (unsigned n = 0; n < gdb_register_count(); n++) {
		gdb_register_read(s->vm->vcpu, n, bytes);
		gdb_reply_hex(&s->reply, bytes, gdb_register_size(n));
	}
	return GDB_STAY;
}

static enum gdb_outcome write_registers(struct gdb_server *s, const char *rest)
{
	u8 bytes[GDB_REGISTER_BYTES];
	bool all = true;

	for (unsigned n = 0; n < gdb_register_count(); n++) {
		unsigned size = gdb_register_size(n);

		if (gdb_parse_hex(rest, bytes, size) != size)
			break; /* it knows fewer */
		all = gdb_register_write(s->vm->vcpu, n, bytes) && all;
		rest += 2 * size;
	}
	return answer(s, all ? "OK" : ERROR_ARGUMENT);
}

static enum gdb_outcome read_register(struct gdb_server *s, const char *rest)
{
	u8 bytes[GDB_REGISTER_BYTES];
	u64 n;

	if (!gdb_parse_number(&rest, &n) || n >= gdb_register_count())
		return answer(s, ERROR_ARGUMENT);
	gdb_register_read(s->vm->vcpu, (unsigned)n, bytes);
	gdb_reply_hex(&s->reply, bytes, gdb_register_size((unsigned)n));
	return GDB_STAY;
}

static enum gdb_outcome write_register(struct gdb_server *s, const char *rest)
{
	u8 bytes[GDB_REGISTER_BYTES];
	unsigned size;
	u64 n;

	if (!gdb_parse_number(&rest, &n) || n >= gdb_register_count() || !skip(&rest, '='))
		return answer(s, ERROR_ARGUMENT);
	size = gdb_register_size((unsigned)n);
	if (gdb_parse_hex(rest, bytes, size) != size || !gdb_register_write(s->vm->vcpu, (unsigned)n, bytes))
		return answer(s, ERROR_ARGUMENT);
	return answer(s, "OK");
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

/* RAM only: reading from a device would have effects. */
static bool locate(struct gdb_server *s, u64 address, u64 *gpa)
{
	*gpa = address;
	return (s->physical || mmu_peek(s->vm->vcpu, address, gpa)) && ram_at(&s->vm->ram, *gpa);
}

static u64 in_page(u64 address, u64 length)
{
	u64 left = PAGE_SIZE - PAGE_OFFSET(address);

	return length < left ? length : left;
}

/* address,length: as much as there is. */
static enum gdb_outcome read_memory(struct gdb_server *s, const char *rest)
{
	u64 address, length, gpa;

	if (!gdb_parse_number(&rest, &address) || !skip(&rest, ',') || !gdb_parse_number(&rest, &length))
		return answer(s, ERROR_ARGUMENT);
	if (length > GDB_PACKET_MAX / 2)
		length = GDB_PACKET_MAX / 2;
	while (length && locate(s, address, &gpa)) {
		u64 n = in_page(address, length);

		gdb_reply_hex(&s->reply, ram_at(&s->vm->ram, gpa), n);
		address += n;
		length -= n;
	}
	return length && !s->reply.length ? answer(s, ERROR_MEMORY) : GDB_STAY;
}

static enum gdb_outcome write_bytes(struct gdb_server *s, u64 address, const u8 *bytes, u64 length)
{
	u64 gpa;

	for (u64 done = 0; done < length; done += in_page(address + done, length - done))
		if (!locate(s, address + done, &gpa))
			return answer(s, ERROR_MEMORY);
	for (u64 done = 0, n; done < length; done += n) {
		n = in_page(address + done, length - done);
		if (!locate(s, address + done, &gpa) || phys_write(s->vm, gpa, bytes + done, n) < 0)
			return answer(s, ERROR_MEMORY);
	}
	return answer(s, "OK");
}

/* address,length: */
static bool parse_target(const char **rest, u64 *address, u64 *length)
{
	return gdb_parse_number(rest, address) && skip(rest, ',') && gdb_parse_number(rest, length) && skip(rest, ':');
}

static enum gdb_outcome write_memory(struct gdb_server *s, const char *rest)
{
	u8 bytes[GDB_PACKET_MAX / 2];
	u64 address, length;

	if (!parse_target(&rest, &address, &length) || length > sizeof(bytes) ||
	    gdb_parse_hex(rest, bytes, length) != length)
		return answer(s, ERROR_ARGUMENT);
	return write_bytes(s, address, bytes, length);
}

static enum gdb_outcome write_binary(struct gdb_server *s, const char *rest)
{
	u64 address, length;

	if (!parse_target(&rest, &address, &length) ||
	    length != s->link.length - (size_t)((const u8 *)rest - s->link.packet))
		return answer(s, ERROR_ARGUMENT);
	return write_bytes(s, address, (const u8 *)rest, length);
}

/* --- running ----------------------------------------------------------------------------------------------------- */

/* type,address,kind: type 0 is a software breakpoint, 1 a hardware one; here they are the same. */
static bool parse_breakpoint(const char *rest, u64 *address, bool *known)
{
	u64 type;

	if (!gdb_parse_number(&rest, &type) || !skip(&rest, ',') || !gdb_parse_number(&rest, address))
		return false;
	*known = type <= 1;
	return true;
}

static enum gdb_outcome insert_breakpoint(struct gdb_server *s, const char *rest)
{
	u64 address;
	bool known;

	if (!parse_breakpoint(rest, &address, &known))
		return answer(s, ERROR_ARGUMENT);
	if (!known)
		return GDB_STAY;
	return answer(s, debugger_add_breakpoint(s->debugger, address) < 0 ? ERROR_FULL : "OK");
}

static enum gdb_outcome remove_breakpoint(struct gdb_server *s, const char *rest)
{
	u64 address;
	bool known;

	if (!parse_breakpoint(rest, &address, &known))
		return answer(s, ERROR_ARGUMENT);
	if (!known)
		return GDB_STAY;
	debugger_remove_breakpoint(s->debugger, address);
	return answer(s, "OK");
}

/* [address] */
static enum gdb_outcome resume_at(struct gdb_server *s, const char *rest, enum gdb_outcome outcome)
{
	u64 address;

	if (gdb_parse_number(&rest, &address)) {
		if (!vcpu_canonical(address))
			return answer(s, ERROR_ARGUMENT);
		s->vm->vcpu->rip = address;
	}
	return outcome;
}

static enum gdb_outcome go_on(struct gdb_server *s, const char *rest)
{
	return resume_at(s, rest, GDB_GO_ON);
}

static enum gdb_outcome step(struct gdb_server *s, const char *rest)
{
	return resume_at(s, rest, GDB_STEP);
}

/* With a signal, which a machine has no use for: sig[;address] */
static enum gdb_outcome resume_with_signal(struct gdb_server *s, const char *rest, enum gdb_outcome outcome)
{
	u64 number;

	if (!gdb_parse_number(&rest, &number))
		return answer(s, ERROR_ARGUMENT);
	skip(&rest, ';');
	return resume_at(s, rest, outcome);
}

static enum gdb_outcome go_on_with_signal(struct gdb_server *s, const char *rest)
{
	return resume_with_signal(s, rest, GDB_GO_ON);
}

static enum gdb_outcome step_with_signal(struct gdb_server *s, const char *rest)
{
	return resume_with_signal(s, rest, GDB_STEP);
}

static enum gdb_outcome cont_actions(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, "vCont;c;C;s;S");
}

/* There is one thread: the first action is for it. */
static enum gdb_outcome cont(struct gdb_server *s, const char *rest)
{
	switch (*rest) {
	case 'c':
	case 'C':
		return GDB_GO_ON;
	case 's':
	case 'S':
		return GDB_STEP;
	default:
		return answer(s, ERROR_ARGUMENT);
	}
}

static enum gdb_outcome why_stopped(struct gdb_server *s, const char *rest)
{
	(void)rest;
	return answer(s, s->stop);
}

static enum gdb_outcome detach(struct gdb_server *s, const char *rest)
{
	(void)rest;
	answer(s, "OK");
	return GDB_DETACH;
}

static enum gdb_outcome end(struct gdb_server *s, const char *rest)
{
	(void)rest;
	answer(s, "OK");
	return GDB_END;
}

/* The first that fits; names are complete where `whole`. */
static const struct {
	const char *name;
	bool whole;
	command_fn *execute;
} commands[] = {
	{"qSupported", false, supported},
	{"QStartNoAckMode", true, no_ack},
	{"qXfer:features:read:target.xml:", false, features},
	{"qAttached", false, attached},
	{"qC", true, current_thread},
	{"qfThreadInfo", true, first_threads},
	{"qsThreadInfo", true, more_threads},
	{"qRcmd,", false, monitor},
	{"H", false, say_ok},
	{"T", false, say_ok},
	{"g", true, read_registers},
	{"G", false, write_registers},
	{"p", false, read_register},
	{"P", false, write_register},
	{"m", false, read_memory},
	{"M", false, write_memory},
	{"X", false, write_binary},
	{"Z", false, insert_breakpoint},
	{"z", false, remove_breakpoint},
	{"vCont?", true, cont_actions},
	{"vCont;", false, cont},
	{"c", false, go_on},
	{"C", false, go_on_with_signal},
	{"s", false, step},
	{"S", false, step_with_signal},
	{"?", true, why_stopped},
	{"D", false, detach},
	{"k", true, end},
	{"vKill;", false, end},
};

enum gdb_outcome gdb_command(struct gdb_server *s, bool *answered)
{
	const char *packet = (const char *)s->link.packet;
	enum gdb_outcome outcome = GDB_STAY;

	s->reply.length = 0;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		size_t length = strlen(commands[i].name);

		if (!strncmp(packet, commands[i].name, length) && (!commands[i].whole || !packet[length])) {
			outcome = commands[i].execute(s, packet + length);
			break;
		}
	}
	/* the empty answer says: not known here; the answer to running is that the guest has stopped, later */
	*answered = outcome != GDB_GO_ON && outcome != GDB_STEP && strcmp(packet, "k") != 0;
	return outcome;
}
