/* alerts/delivery.h: bringing alerts to whoever is to know: log, NOTIFY, challenge_jobs.alert_command. */
#ifndef CJ_ALERTS_DELIVERY_H
#define CJ_ALERTS_DELIVERY_H

/*
 * Announces and delivers the alerts of this database that are due: a task of the worker, connected to the
 * database, outside of any transaction. Ends after the first that could not be delivered, or when
 * challenge_jobs.alert_timeout is over, so as not to keep other tasks waiting for long: what is left is due
 * the next time.
 */
extern void cj_alert_deliver(void);

/*
 * The same by hand (CALL challenge_jobs.deliver_alerts), of all that have not been given up, also those that
 * wait for another attempt. The caller is connected to SPI with SPI_OPT_NONATOMIC. Reports by a notice what was
 * done; raises insufficient_privilege unless the caller is a superuser.
 */
extern void cj_alert_deliver_by_hand(void);

#endif /* CJ_ALERTS_DELIVERY_H */
