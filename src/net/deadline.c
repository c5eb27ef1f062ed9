#include "net/deadline.h"

#include "base/clock.h"

static struct deadline *first(struct deadline_list *list)
{
    return CONTAINER_OF(list->entries.next, struct deadline, link);
}

static void schedule(struct deadline_list *list)
{
    if (list_empty(&list->entries) || ev_is_active(&list->timer))
        return;
    double after = first(list)->at - clock_monotonic_seconds();
    ev_timer_set(&list->timer, after > 0 ? after : 0, 0);
    ev_timer_start(list->loop, &list->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct deadline_list *list = timer->data;

    (void)loop;
    (void)events;
    for (double at = clock_monotonic_seconds();
         !list_empty(&list->entries) && first(list)->at <= at;) {
        struct deadline *deadline = first(list);
        list_remove(&deadline->link);
        list->expired(deadline);
    }
    schedule(list);
}

void deadline_list_init(struct deadline_list *list, struct ev_loop *loop, double seconds,
    void (*expired)(struct deadline *))
{
    list->loop = loop;
    list->seconds = seconds;
    list->expired = expired;
    list_init(&list->entries);
    ev_timer_init(&list->timer, on_timer, 0, 0);
    list->timer.data = list;
}

void deadline_list_deinit(struct deadline_list *list)
{
    ev_timer_stop(list->loop, &list->timer);
    while (!list_empty(&list->entries))
        list_remove(list->entries.next);
}

void deadline_init(struct deadline *deadline)
{
    list_init(&deadline->link);
    deadline->at = 0;
}

void deadline_arm(struct deadline_list *list, struct deadline *deadline)
{
    deadline_disarm(deadline);
    if (list->seconds <= 0)
        return;
    deadline->at = clock_monotonic_seconds() + list->seconds;
    list_append(&list->entries, &deadline->link);
    schedule(list);
}

void deadline_arm_for(struct deadline_list *list, struct deadline *deadline, double seconds)
{
    struct link *after;

    deadline_disarm(deadline);
    deadline->at = clock_monotonic_seconds() + seconds;
    for (after = list->entries.previous; after != &list->entries; after = after->previous)
        if (CONTAINER_OF(after, struct deadline, link)->at <= deadline->at)
            break;
    list_insert_before(after->next, &deadline->link);
    if (first(list) == deadline)
        ev_timer_stop(list->loop, &list->timer);
    schedule(list);
}

void deadline_shorten(struct deadline_list *list, struct deadline *deadline, double seconds)
{
    double left = deadline_left(deadline);

    if (left < 0 || seconds < left)
        deadline_arm_for(list, deadline, seconds);
}

void deadline_disarm(struct deadline *deadline)
{
    list_remove(&deadline->link);
}

double deadline_left(const struct deadline *deadline)
{
    if (list_empty(&deadline->link))
        return -1;
    double left = deadline->at - clock_monotonic_seconds();
    return left > 0 ? left : 0;
}
