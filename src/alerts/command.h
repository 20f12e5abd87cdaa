/* alerts/command.h: the shell command that carries alerts out of the server: challenge_jobs.alert_command. */
#ifndef CJ_ALERTS_COMMAND_H
#define CJ_ALERTS_COMMAND_H

/* Whether there is a command. */
extern bool cj_alert_command_is_set(void);

/* challenge_jobs.alert_timeout, in milliseconds, and what the killing of a command may take on top. */
extern int cj_alert_command_timeout(void);

/*
 * Runs the command with `input` on its standard input, until it ends or its time is over. Returns NULL if
 * it exited with 0, else what went wrong, in the current memory context and the encoding of the database.
 *
 * Needs no transaction, and there should be none. Honours interrupts: the command is then killed with its
 * children, and the error goes on.
 */
extern char *cj_alert_command_run(const char *input);

/* Defines challenge_jobs.alert_command and challenge_jobs.alert_timeout. */
extern void cj_alert_command_init(void);

#endif /* CJ_ALERTS_COMMAND_H */
