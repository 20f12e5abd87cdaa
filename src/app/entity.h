/*
 * app/entity.h
 *		What the app's tables can stand for: entities, their columns and labels.
 *
 * No SPI. Functions that take a type look it up in the catalog caches and need a transaction.
 */
#ifndef CJ_APP_ENTITY_H
#define CJ_APP_ENTITY_H

#include "nodes/pg_list.h"

typedef enum CjEntity
{
	CJ_CHALLENGES,
	CJ_CHALLENGE_MEMBERS,
	CJ_CHALLENGE_MEMBER_STATS,
	CJ_NOTIFICATIONS,
	CJ_USERS
} CjEntity;

#define CJ_ENTITY_COUNT (CJ_USERS + 1)

/* Columns of each entity, in the order of the table in entity.c. */
enum
{
	CJ_CHALLENGES_ID,
	CJ_CHALLENGES_STATUS,
	CJ_CHALLENGES_END_DATE,
	CJ_CHALLENGES_NAME,
	CJ_CHALLENGES_START_DATE,
	CJ_CHALLENGES_THRESHOLD,
	CJ_CHALLENGES_CREATOR_ID
};

enum
{
	CJ_MEMBERS_CHALLENGE_ID,
	CJ_MEMBERS_USER_ID,
	CJ_MEMBERS_STATUS,
	CJ_MEMBERS_CURRENT_STREAK,
	CJ_MEMBERS_LAST_CHECKIN_AT,
	CJ_MEMBERS_NEXT_DUE_ON
};

enum
{
	CJ_STATS_CHALLENGE_ID,
	CJ_STATS_COMPLETION_RATE,
	CJ_STATS_USER_ID
};

enum
{
	CJ_NOTIFICATIONS_USER_ID,
	CJ_NOTIFICATIONS_TYPE,
	CJ_NOTIFICATIONS_TITLE,
	CJ_NOTIFICATIONS_BODY,
	CJ_NOTIFICATIONS_DATA,
	CJ_NOTIFICATIONS_CREATED_AT,
	CJ_NOTIFICATIONS_EXPIRES_AT,
	CJ_NOTIFICATIONS_IS_READ,
	CJ_NOTIFICATIONS_READ_AT
};

enum
{
	CJ_USERS_ID,
	CJ_USERS_TIMEZONE,
	CJ_USERS_REMINDER_TIME
};

#define CJ_MAX_COLUMNS 10
#define CJ_MAX_LABELS  4

/* Labels of each entity, in the order of the table in entity.c. */
enum
{
	CJ_CHALLENGES_ACTIVE,
	CJ_CHALLENGES_COMPLETED,
	CJ_CHALLENGES_FAILED,
	CJ_CHALLENGES_CANCELLED
};

enum
{
	CJ_MEMBERS_ACTIVE
};

enum
{
	CJ_NOTIFICATIONS_CHALLENGE_COMPLETED,
	CJ_NOTIFICATIONS_STREAK_REMINDER
};

/* One bit a column or label of the entity. */
#define CJ_BIT(n) (1u << (n))

/* What a column may hold. */
typedef enum CjColumnKind
{
	CJ_KIND_KEY,    /* anything with a default btree operator class */
	CJ_KIND_LABEL,  /* text, varchar, char, enum */
	CJ_KIND_DATE,   /* date, timestamp, timestamptz */
	CJ_KIND_DAY,    /* date */
	CJ_KIND_MOMENT, /* timestamp, timestamptz */
	CJ_KIND_TIME,   /* of day: time */
	CJ_KIND_BOOLEAN,
	CJ_KIND_NUMBER,  /* integers, numeric, floating point */
	CJ_KIND_TEXT,    /* any string type */
	CJ_KIND_DOCUMENT /* json, jsonb, text */
} CjColumnKind;

typedef struct CjColumnDefinition
{
	const char *name;
	CjColumnKind kind;
	bool required;
	/* Where its name may mean something else in an app: what it is to jobs. It is used only where bind() names it. */
	const char *meaning;
	bool is_written; /* a generated column will not do, since jobs write it */
} CjColumnDefinition;

typedef struct CjLabelDefinition
{
	const char *name;  /* in bind() */
	const char *value; /* by default; NULL: none, jobs do without */
} CjLabelDefinition;

typedef struct CjEntityDefinition
{
	const char *name;
	const char *default_relation;
	bool may_be_view;
	int label_column; /* the column that holds the labels, -1: none */
	CjColumnDefinition columns[CJ_MAX_COLUMNS + 1];
	CjLabelDefinition labels[CJ_MAX_LABELS + 1];
} CjEntityDefinition;

/* In the order of CjEntity; this list and those of columns and labels end in one without a name. */
extern const CjEntityDefinition cj_entity_definitions[CJ_ENTITY_COUNT + 1];

/* Returns the name of an entity. */
extern const char *cj_entity_name(CjEntity entity);

/* Return the position of a name, or -1. */
extern int cj_entity_find(const char *name, int len);
extern int cj_entity_find_column(CjEntity entity, const char *name, int len);
extern int cj_entity_find_label(CjEntity entity, const char *name, int len);

/* Returns whether a (base) type is of a kind, and says in words what the kind accepts. */
extern bool cj_entity_accepts(CjColumnKind kind, Oid type);
extern const char *cj_entity_kind_name(CjColumnKind kind);

#endif /* CJ_APP_ENTITY_H */
