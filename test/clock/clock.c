/*
 * clock.c
 *		A wall clock that can be set: for tests of what happens when clocks jump.
 *
 * Loaded by LD_PRELOAD into all processes of a server (test/t/ChallengeJobsClock.pm), which shift what they
 * read of the wall clock by the number of microseconds that stands in the file CJ_CLOCK_FILE. The file is
 * mapped, so that all of them see a change at once. Clocks that only run (CLOCK_MONOTONIC), timers and the
 * times of files stay as they are.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift;

/* map_file maps the file; without one the clock is right. */
__attribute__((constructor)) static void
map_file(void)
{
	const char *path = getenv("CJ_CLOCK_FILE");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped;

	if (file < 0)
		return;
	mapped = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (mapped != MAP_FAILED)
		shift = mapped;
}

/* clock_gettime is the system call, as the function of libc cannot be reached from here without it. */
int
clock_gettime(clockid_t clock, struct timespec *result)
{
	int status = (int) syscall(SYS_clock_gettime, clock, result);

	if (status == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
	{
		int64_t nanoseconds = result->tv_nsec + *shift % 1000000 * 1000;

		result->tv_sec += *shift / 1000000;
		if (nanoseconds < 0)
		{
			result->tv_sec--;
			nanoseconds += 1000000000;
		}
		result->tv_sec += nanoseconds / 1000000000;
		result->tv_nsec = nanoseconds % 1000000000;
	}
	return status;
}

int
gettimeofday(struct timeval *restrict result, void *restrict zone)
{
	struct timespec now;
	int status = clock_gettime(CLOCK_REALTIME, &now);

	(void) zone;
	result->tv_sec = now.tv_sec;
	result->tv_usec = now.tv_nsec / 1000;
	return status;
}

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
