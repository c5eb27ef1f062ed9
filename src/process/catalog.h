#pragma once

/*
 * The MESSAGE_ID= of each message that the journal's catalog explains, as `journalctl -x` shows it:
 * packaging/baton.catalog has an entry for each. They are for ever: who watches a journal matches
 * them (systemd.journal-fields(7)). A new one comes from `systemd-id128 new`.
 */
#define CATALOG_SERVING "00f2d6f69fd84e2cb458bbc43a449b91"
#define CATALOG_RELOADED "98e2321b827f40d9a1d3a44d367a879c"
#define CATALOG_RELOAD_REFUSED "c8b55775afe942e6b3afd7c27abac735"
#define CATALOG_STOPPED "987fb60424fb4b7c8c8006306463e5cf"
#define CATALOG_CANNOT_START "dbd97e4bd4c24280bf60932181540d5a"
#define CATALOG_WORKER_DIED "84e85f87b6c4434fb276a962ef71d4a3"
#define CATALOG_WORKER_ABORTED "1c967aedc0ad41e1b202008c0831d7bb"
#define CATALOG_SUPERVISOR_GONE "741a877360d94737924fb34962660acb"
#define CATALOG_DRAIN_CUT "0babf0e4896241ad8b0382f1c26965b0"
#define CATALOG_RECORDS_DIFFER "36b19e2daf7547089dd0fd7a9d07b2af"
#define CATALOG_NO_ROOM_TO_PARK "3ffd6b7c8b3944fb89fb4c2a2c5b66ce"
#define CATALOG_NOTHING_KEPT "80af42b010f741758d17721c447d7357"
#define CATALOG_CANNOT_ACCEPT "9854624662174bcbb2f3736c84fb1cae"
