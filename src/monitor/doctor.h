/* monitor/doctor.h: checks of the installation: what was found, and what to type to mend it. */
#ifndef CJ_MONITOR_DOCTOR_H
#define CJ_MONITOR_DOCTOR_H

#include "utils/tuplestore.h"

/*
 * Appends a row (check, status, found, remedy) for each check to the tuplestore. The caller is
 * connected to SPI. Raises no errors for what it finds.
 */
extern void cj_doctor_examine(Tuplestorestate *store, TupleDesc desc);

/* Notes while the library is being loaded whether it is preloaded. */
extern void cj_doctor_init(void);

#endif /* CJ_MONITOR_DOCTOR_H */
