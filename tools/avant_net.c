/* avant-net: the network process behind `avant run --net user`, started by it and by nobody else. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/process/process.h"

/* Dies with the VMM, and not of what a terminal sends to both. */
static void follow_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	close_range(PROCESS_WAKE_ME + 1, ~0U, 0);
}

static int start(const char *text, struct net_config *config, struct channel *channel, struct user_net **net,
		 struct err *err)
{
	int resolver;

	if (net_config_parse(config, text, err) < 0 ||
	    channel_open(channel, CHANNEL_PROCESS, PROCESS_MEMORY, PROCESS_WAKE_PEER, PROCESS_WAKE_ME, err) < 0)
		return -1;
	close(PROCESS_MEMORY);
	resolver = resolver_open(config, err);
	if (resolver < 0)
		return -1;
	*net = user_net_create(config, channel, err);
	return *net ? confine(config->restricted, resolver, err) : -1;
}

int main(int argc, char **argv)
{
	struct net_config config;
	struct channel channel;
	struct user_net *net = NULL;
	struct err err = ERR_INIT;
	char message[1 + sizeof(err.text)] = {PROCESS_READY};
	int status;

	if (argc != 2) {
		fputs("avant-net is started by 'avant run --net user'\n", stderr);
		return 2;
	}
	follow_parent();
	status = start(argv[1], &config, &channel, &net, &err);
	if (status < 0) {
		message[0] = PROCESS_ERROR;
		memcpy(message + 1, err.text, sizeof(err.text));
	}
	if (send(PROCESS_CONTROL, message, sizeof(message), MSG_NOSIGNAL) < 0 || status < 0)
		return 1;
	user_net_run(net, PROCESS_CONTROL);
	return 0;
}
