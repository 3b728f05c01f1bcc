/* Options of avant run that put devices into the guest. */
#ifndef AVANT_TOOLS_DEVICE_OPTIONS_H
#define AVANT_TOOLS_DEVICE_OPTIONS_H

struct err;

/*
 * The field is the whole struct vm_config: the options may be given several times. Arguments are taken apart where they
 * are, for the configuration refers to their parts.
 */
int option_disk(void *field, const char *text, struct err *err);  /* FILE[,KEY[=VALUE]]... */
int option_image(void *field, const char *text, struct err *err); /* the same; becomes the first disk */
int option_share(void *field, const char *text, struct err *err); /* DIR,tag=TAG[,KEY]... */

int option_net(void *field, const char *text, struct err *err); /* a struct net_config: none|user[,KEY[=VALUE]]... */

#endif
