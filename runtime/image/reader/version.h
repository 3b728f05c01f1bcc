/* Comparing version numbers. */
#ifndef AVANT_IMAGE_VERSION_H
#define AVANT_IMAGE_VERSION_H

/*
 * By the Version Format Specification of the UAPI group, which boot loaders use: less than, equal to or greater than 0
 * as `a` is older than, as old as or newer than `b`. "6.1.0-9" < "6.1.0-10", "6.1~rc1" < "6.1".
 */
int version_compare(const char *a, const char *b);

#endif
