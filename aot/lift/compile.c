/* From a scanned unit to an object file in memory: module, passes, code generation. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include "ir.h"
#include "object.h"
#include "util/err.h"

/* What measurements favour (README.md). */
#define PASSES                                                                                                         \
	"function(sroa,early-cse,instcombine<max-iterations=1;no-verify-fixpoint>,simplifycfg,gvn<no-load-pre;no-pre>" \
	",instcombine<max-iterations=1;no-verify-fixpoint>,simplifycfg,adce)"

/* Guests see an x86-64-v3 processor, and so may lifted code; of it the general-purpose instructions alone. */
#define CPU      "x86-64-v3"
#define FEATURES "+soft-float,-x87,-mmx,-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2,-f16c,-fma,+popcnt,+crc32"

struct lift_worker {
	LLVMContextRef context;
	LLVMTargetMachineRef machine;
	LLVMPassBuilderOptionsRef pass_options;
	void (*dump)(const char *ir);
	struct lift lift; /* work area */
};

static void ignore_diagnostic(LLVMDiagnosticInfoRef info, void *opaque)
{
	(void)info;
	(void)opaque;
}

static pthread_once_t initialised = PTHREAD_ONCE_INIT;

/* What LLVM has but once for all threads. */
static void initialise(void)
{
	LLVMInitializeX86TargetInfo();
	LLVMInitializeX86Target();
	LLVMInitializeX86TargetMC();
	LLVMInitializeX86AsmPrinter();
	LLVMInitializeX86AsmParser();
	/* induction variables of their own for each address: registers are what loops have none of to spare */
	LLVMParseCommandLineOptions(2, (const char *const[]){"lift", "-disable-lsr"}, "");
}

static LLVMTargetMachineRef create_machine(struct err *err)
{
	LLVMTargetRef target;
	char *message = NULL;

	pthread_once(&initialised, initialise);
	if (LLVMGetTargetFromTriple("x86_64-unknown-linux-gnu", &target, &message)) {
		err_set(err, "LLVM has no x86-64 target: %s", message);
		LLVMDisposeMessage(message);
		return NULL;
	}
	LLVMTargetMachineRef machine =
		LLVMCreateTargetMachine(target, "x86_64-unknown-linux-gnu", CPU, FEATURES, LLVMCodeGenLevelDefault,
					LLVMRelocStatic, LLVMCodeModelSmall);

	if (!machine)
		err_set(err, "LLVM cannot generate code for " CPU);
	return machine;
}

struct lift_worker *lift_worker_create(struct err *err)
{
	struct lift_worker *worker = calloc(1, sizeof(*worker));

	if (!worker) {
		err_set(err, "out of memory");
		return NULL;
	}
	worker->machine = create_machine(err);
	if (!worker->machine) {
		free(worker);
		return NULL;
	}
	worker->context = LLVMContextCreate();
	LLVMContextSetDiagnosticHandler(worker->context, ignore_diagnostic, NULL);
	worker->pass_options = LLVMCreatePassBuilderOptions();
	return worker;
}

void lift_worker_destroy(struct lift_worker *worker)
{
	if (!worker)
		return;
	LLVMDisposePassBuilderOptions(worker->pass_options);
	LLVMDisposeTargetMachine(worker->machine);
	LLVMContextDispose(worker->context);
	free(worker);
}

void lift_worker_dump(struct lift_worker *worker, void (*sink)(const char *ir))
{
	worker->dump = sink;
}

static LLVMValueRef weights(struct lift *l, u64 first, u64 second)
{
	LLVMMetadataRef parts[] = {
		LLVMMDStringInContext2(l->context, "branch_weights", 14),
		LLVMValueAsMetadata(LLVMConstInt(l->i32, first, false)),
		LLVMValueAsMetadata(LLVMConstInt(l->i32, second, false)),
	};

	return LLVMMetadataAsValue(l->context, LLVMMDNodeInContext2(l->context, parts, 3));
}

static void begin(struct lift_worker *worker, struct lift *l)
{
	LLVMTypeRef types[13];

	memset(l, 0, sizeof(*l));
	l->context = worker->context;
	l->module = LLVMModuleCreateWithNameInContext("unit", l->context);
	LLVMSetTarget(l->module, "x86_64-unknown-linux-gnu");
	LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(worker->machine);

	LLVMSetModuleDataLayout(l->module, layout);
	LLVMDisposeTargetData(layout);
	l->b = LLVMCreateBuilderInContext(l->context);
	l->i1 = LLVMInt1TypeInContext(l->context);
	l->i8 = LLVMInt8TypeInContext(l->context);
	l->i16 = LLVMInt16TypeInContext(l->context);
	l->i32 = LLVMInt32TypeInContext(l->context);
	l->i64 = LLVMInt64TypeInContext(l->context);
	l->i128 = LLVMInt128TypeInContext(l->context);
	l->ptr = LLVMPointerTypeInContext(l->context, 0);
	l->none = LLVMVoidTypeInContext(l->context);
	for (unsigned i = 0; i < 12; i++)
		types[i] = l->i64;
	types[12] = l->ptr;
	l->function_type = LLVMFunctionType(l->none, types, 13, false);
	l->prof_kind = LLVMGetMDKindIDInContext(l->context, "prof", 4);
	l->invariant_kind = LLVMGetMDKindIDInContext(l->context, "invariant.load", 14);
	l->unlikely = weights(l, 1, 2000);
	l->empty_node = LLVMMetadataAsValue(l->context, LLVMMDNodeInContext2(l->context, NULL, 0));
}

static bool optimise(struct lift_worker *worker, struct lift *l)
{
	LLVMErrorRef error = LLVMRunPasses(l->module, PASSES, worker->machine, worker->pass_options);

	if (error) {
		LLVMConsumeError(error);
		l->reason = "LLVM's passes failed";
		return false;
	}
	return true;
}

static struct lifted *generate(struct lift_worker *worker, struct lift *l)
{
	LLVMMemoryBufferRef buffer;
	struct lifted *lifted;
	char *message = NULL;

	if (LLVMTargetMachineEmitToMemoryBuffer(worker->machine, l->module, LLVMObjectFile, &message, &buffer)) {
		LLVMDisposeMessage(message);
		l->reason = "LLVM cannot generate code";
		return NULL;
	}
	lifted = object_read((const u8 *)LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer), l->exit, l->exit_count,
			     &l->reason);
	LLVMDisposeMemoryBuffer(buffer);
	return lifted;
}

static void dump(struct lift_worker *worker, struct lift *l)
{
	char *text = LLVMPrintModuleToString(l->module);

	worker->dump(text);
	LLVMDisposeMessage(text);
}

struct lifted *lift_compile(struct lift_worker *worker, const struct scan *scan, const bool wanted[SCAN_ROOM],
			    const struct lift_options *options, const char **reason)
{
	struct lift *l = &worker->lift;
	struct lifted *lifted = NULL;

	begin(worker, l);
	l->scan = scan;
	l->options = options;
	l->lifted = wanted;
	if (scan->straddles)
		l->reason = "reaches into the next page";
	else if (lift_unit(l)) {
#ifdef AVANT_LIFT_VERIFY
		char *message = NULL;

		if (LLVMVerifyModule(l->module, LLVMPrintMessageAction, &message))
			abort();
		LLVMDisposeMessage(message);
#endif
		if (optimise(worker, l)) {
			if (worker->dump)
				dump(worker, l);
			lifted = generate(worker, l);
		}
	}
	if (lifted) {
		memcpy(lifted->lifted, wanted, sizeof(lifted->lifted));
		lifted->counted = options->counted;
		lifted->tally = options->tally;
	}
	*reason = l->reason;
	LLVMDisposeBuilder(l->b);
	LLVMDisposeModule(l->module);
	return lifted;
}

void lift_free(struct lifted *lifted)
{
	if (!lifted)
		return;
	free(lifted->text);
	free(lifted->fix);
	free(lifted->exit);
	free(lifted);
}
