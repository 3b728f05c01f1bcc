/* Writing what several recordings hold together as one. */
#ifndef AVANT_AOT_SAVE_RECORDING_H
#define AVANT_AOT_SAVE_RECORDING_H

#include "plan.h"

/*
 * Writes the planned units that were executed, with their counts, as a recording (live/record.h) for the processor
 * model `cpu`. Call before code that nobody executed is planned. -1 with a message in err; the file is complete or not
 * there.
 */
int save_recording(const struct plan *plan, const char *cpu, const char *path, struct err *err);

#endif
