/*
 * alerts/command.c
 *		The shell command that carries alerts out of the server.
 *
 * Outside of transactions. The command runs as archive_command does, as the
 * account of the server and in its data directory, with these differences:
 *
 * - Standard input is the alert, all of it there before the command starts. A command need not read it; standard
 *   output is thrown away, of standard error the first line is kept.
 * - It is the leader of a process group of its own, so that it can be killed with its children when its
 *   time is over, and inherits no file of ours but those three.
 * - While it runs we wait on our latch, so that a shutdown or a cancellation need not wait for it.
 *
 * Children that a command leaves behind in the background when it ends are left alone; those that make
 * themselves leaders of other groups escape. If our process dies by kill -9, nobody limits the command's
 * time any more; on Linux it is sent SIGTERM by the kernel.
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "alerts/command.h"

/* How much of the first line of standard error is kept, in bytes. */
#define LINE_SIZE 500

/* How long a command whose time is over may take to end by itself, in milliseconds, and how long we look
 * whether it has died when it was killed. */
#define GRACE     2000
#define REAP_TIME 2000

/* How long at most until we look again whether the command has ended, in milliseconds. */
#define LONGEST_NAP 50

static char *alert_command = NULL;
static int alert_timeout_ms = 30000;

/* A command that runs. */
typedef struct Child
{
	pid_t pid; /* also its process group; not reaped, so that the number stays its own; 0: none */
	int error_fd; /* -1: closed */
	char line[LINE_SIZE];
	int line_length;
	bool line_ended;
} Child;

void
cj_alert_command_init(void)
{
	/*
	 * The command; empty (the default): none. It runs with all that the server's account may do, so only
	 * whoever can write postgresql.conf sets it: not ALTER SYSTEM, which can be granted, and nobody but
	 * superusers sees it, as it may hold the key of a web hook.
	 */
	DefineCustomStringVariable("challenge_jobs.alert_command",
							   "Shell command that is given each alert, as JSON on standard input.",
							   "It has to exit with 0, or is tried again later.",
							   &alert_command,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY | GUC_DISALLOW_IN_AUTO_FILE,
							   NULL, NULL, NULL);

	/* How long it may take, in milliseconds: 100 ms to an hour, 30 s by default. */
	DefineCustomIntVariable("challenge_jobs.alert_timeout",
							"How long challenge_jobs.alert_command may take before it is killed.",
							NULL,
							&alert_timeout_ms,
							30000, 100, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

bool
cj_alert_command_is_set(void)
{
	return alert_command != NULL && alert_command[strspn(alert_command, " \t\r\n")] != '\0';
}

int
cj_alert_command_timeout(void)
{
	return alert_timeout_ms + GRACE + REAP_TIME;
}

/* ---- the child's side ---- */

static void
close_files(void)
{
	long count;

#if defined(__linux__) && defined(SYS_close_range)
	if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
		return;
#endif
	count = sysconf(_SC_OPEN_MAX);
	if (count < 0 || count > 65536)
		count = 65536;
	for (int fd = 3; fd < count; fd++)
		(void) close(fd);
}

/*
 * become_command turns the forked process into the command. All signals are blocked; nothing may be called
 * here that is not safe in a signal handler. It does not return.
 */
static void
become_command(int input, int output, int error, pid_t parent)
{
	sigset_t none;

	(void) setpgid(0, 0);
#ifdef __linux__
	(void) prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(127);
#endif
	if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
		dup2(error, STDERR_FILENO) < 0)
		_exit(127);
	close_files();

	/* ignored signals (SIGPIPE) would stay ignored, and our handlers are not for this process */
	for (int number = 1; number < NSIG; number++)
		(void) signal(number, SIG_DFL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);

	(void) execl("/bin/sh", "sh", "-c", alert_command, (char *) NULL);
	_exit(127);
}

/* ---- our side ---- */

static void
close_file(int *fd)
{
	if (*fd >= 0)
		(void) close(*fd);
	*fd = -1;
}

/*
 * make_input makes the standard input of the command: a file without a name that holds the whole text before the command
 * starts, so that it reads all of it whatever becomes of us. -1: that failed, as errno says.
 */
static int
make_input(const char *text)
{
	FILE *file = tmpfile();
	int input = -1;

	if (file == NULL)
		return -1;
	if (fputs(text, file) >= 0 && fflush(file) == 0)
		input = dup(fileno(file));
	(void) fclose(file);
	if (input >= 0 && lseek(input, 0, SEEK_SET) < 0)
		close_file(&input);
	return input;
}

/* start forks and starts the command; returns what went wrong, or NULL. */
static char *
start(Child *child, const char *text)
{
	int input = make_input(text);
	int error[2] = {-1, -1};
	int output = open("/dev/null", O_WRONLY);
	sigset_t all;
	sigset_t before;
	char *problem = NULL;

	if (input < 0 || output < 0 || pipe(error) < 0 || !pg_set_noblock(error[0]))
		problem = psprintf("could not make standard input, output or error for the command: %s",
						   strerror(errno));
	else
	{
		pid_t parent = getpid();

		/* the child must not run a handler of ours, which would meddle with shared memory */
		sigfillset(&all);
		(void) sigprocmask(SIG_SETMASK, &all, &before);
		child->pid = fork();
		if (child->pid == 0)
			become_command(input, output, error[1], parent);
		(void) sigprocmask(SIG_SETMASK, &before, NULL);
		if (child->pid > 0)
			(void) setpgid(child->pid, child->pid); /* whoever of the two comes first */
		else
		{
			problem = psprintf("could not fork: %s", strerror(errno));
			child->pid = 0;
		}
	}
	close_file(&input);
	close_file(&output);
	close_file(&error[1]);
	child->error_fd = error[0];
	return problem;
}

/* keep takes the first line that is not empty out of what was written to standard error. */
static void
keep(Child *child, const char *bytes, ssize_t length)
{
	for (ssize_t i = 0; i < length && !child->line_ended; i++)
	{
		if (bytes[i] == '\n' || bytes[i] == '\r')
			child->line_ended = child->line_length > 0;
		else
			child->line[child->line_length++] = bytes[i];
		if (child->line_length == LINE_SIZE)
			child->line_ended = true;
	}
}

/* drain reads some of what is there of standard error, without waiting; returns whether it found anything. */
static bool
drain(Child *child)
{
	char buffer[16384];
	ssize_t length;

	if (child->error_fd < 0)
		return false;
	length = read(child->error_fd, buffer, sizeof(buffer));
	if (length > 0)
	{
		keep(child, buffer, length);
		return true;
	}
	if (length == 0 || (errno != EAGAIN && errno != EINTR))
		close_file(&child->error_fd);
	return false;
}

static bool
has_exited(const Child *child)
{
	siginfo_t info;

	info.si_pid = 0;
	return waitid(P_PID, child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

/* elapsed returns how many milliseconds have passed; the clock is one that nobody sets. */
static double
elapsed(instr_time since)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* nap waits until there is something on standard error, the latch is set, or for so many milliseconds. */
static void
nap(const Child *child, long milliseconds)
{
	int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (child->error_fd >= 0)
		events |= WL_SOCKET_READABLE;
	events = WaitLatchOrSocket(MyLatch, events,
							   child->error_fd >= 0 ? child->error_fd : PGINVALID_SOCKET,
							   milliseconds, PG_WAIT_EXTENSION);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * attend drains the command until it has ended, at most for so many milliseconds; returns whether it
 * has. With `all`, its children as well, as far as they hold its standard error.
 */
static bool
attend(Child *child, int milliseconds, bool all)
{
	instr_time begin;
	long length = 1;

	INSTR_TIME_SET_CURRENT(begin);
	for (;;)
	{
		double left = milliseconds - elapsed(begin);
		/* asked first: what it wrote before it ended is then there to be read */
		bool exited = has_exited(child);
		bool found = false;

		for (int i = 0; i < 16 && drain(child); i++)
			found = true;
		if (exited && !(all && child->error_fd >= 0))
			return true;
		if (left <= 0)
			return false;
		nap(child, found ? 0 : Min(length, (long) left + 1));
		length = found ? 1 : Min(length * 2, LONGEST_NAP);
	}
}

/* reap waits a moment for the shell, which is dead or about to die; returns its status, -1 if not known. */
static int
reap(Child *child)
{
	int status = -1;

	/* (a process that hangs in the kernel cannot be killed, and must not hang us) */
	for (int i = 0; i < REAP_TIME / 10; i++)
	{
		pid_t reaped = waitpid(child->pid, &status, WNOHANG);

		if (reaped == child->pid)
			break;
		status = -1;
		if (reaped < 0 && errno != EINTR)
			break;
		pg_usleep(10 * 1000L);
	}
	child->pid = 0;
	return status;
}

/* end_at_once ends a command when an error or the end of our process comes between. */
static void
end_at_once(int code, Datum arg)
{
	Child *child = (Child *) DatumGetPointer(arg);

	if (child->pid == 0)
		return;
	(void) kill(-child->pid, SIGTERM);
	for (int i = 0; i < 20 && !has_exited(child); i++)
		pg_usleep(10 * 1000L);
	(void) kill(-child->pid, SIGKILL);
	(void) reap(child);
	close_file(&child->error_fd);
}

/*
 * valid_line returns the line that was kept, in the encoding of the database: what is not valid there, and
 * control characters, are question marks.
 */
static char *
valid_line(const Child *child)
{
	const unsigned char *bytes = (const unsigned char *) child->line;
	StringInfoData line;

	initStringInfo(&line);
	for (int i = 0; i < child->line_length;)
	{
		int length = 1;

		if (bytes[i] == '\t')
			appendStringInfoChar(&line, ' ');
		else if (bytes[i] < 0x20 || bytes[i] == 0x7f)
			appendStringInfoChar(&line, '?');
		else if (bytes[i] < 0x80)
			appendStringInfoChar(&line, bytes[i]);
		else if (GetDatabaseEncoding() == PG_UTF8 &&
				 (length = pg_encoding_verifymbchar(PG_UTF8, child->line + i,
													child->line_length - i)) > 0)
			appendBinaryStringInfo(&line, child->line + i, length);
		else
		{
			/* commands write UTF-8, if anything; of an incomplete character only the first byte is told */
			appendStringInfoChar(&line, '?');
			for (length = 1; i + length < child->line_length && (bytes[i + length] & 0xc0) == 0x80;)
				length++;
		}
		i += length;
	}
	return line.data;
}

/* describe says in words how a command ended; NULL: it exited with 0. */
static char *
describe(const Child *child, int status, bool timed_out)
{
	char *how;

	if (timed_out)
		how = psprintf("killed: it took longer than %d ms", alert_timeout_ms);
	else if (status == -1)
		how = pstrdup("ended in an unknown way");
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	else if (WIFEXITED(status))
		how = psprintf("exit status %d", WEXITSTATUS(status));
	else
		how = psprintf("ended by signal %d", WTERMSIG(status));
	return child->line_length > 0 ? psprintf("%s: %s", how, valid_line(child)) : how;
}

static char *
run(Child *child)
{
	bool timed_out = !attend(child, alert_timeout_ms, false);

	if (timed_out)
	{
		(void) kill(-child->pid, SIGTERM);
		(void) attend(child, GRACE, true);
		(void) kill(-child->pid, SIGKILL);
	}
	return describe(child, reap(child), timed_out);
}

char *
cj_alert_command_run(const char *input)
{
	Child child = {.error_fd = -1};
	char *problem;

	/* the end of the process (FATAL) does not come through PG_CATCH */
	PG_ENSURE_ERROR_CLEANUP(end_at_once, PointerGetDatum(&child));
	{
		problem = start(&child, input);
		if (problem == NULL)
			problem = run(&child);
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_at_once, PointerGetDatum(&child));
	close_file(&child.error_fd);
	return problem;
}
