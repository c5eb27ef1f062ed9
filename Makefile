# Baton. `make run` and `make check` are all a newcomer needs; `make help` lists the rest.

VERSION := 0.1.0
PREFIX ?= /usr
DESTDIR ?=
SYSCONFDIR ?= /etc
BUILD ?= build
CC ?= cc
CFLAGS ?= -O2 -g
WERROR ?=
SANITIZE ?=

PKG_CONFIG ?= pkg-config
LLHTTP_SOURCES := $(wildcard /usr/share/llhttp/*.c)

# llhttp: a shared library where the system has one (Debian 13, Fedora), else the C source that
# Debian 12 ships, compiled as it is.
ifeq ($(LLHTTP_SOURCES),)
LLHTTP_LIBS := -lllhttp
else
LLHTTP_CPPFLAGS := -isystem /usr/share/include/llhttp
LLHTTP_OBJECTS := $(LLHTTP_SOURCES:/usr/share/llhttp/%.c=$(BUILD)/llhttp/%.o)
endif

override CPPFLAGS += -Isrc -D_GNU_SOURCE -DBATON_VERSION='"$(VERSION)"' $(LLHTTP_CPPFLAGS)
override CFLAGS += -std=gnu17 -fno-strict-aliasing -fno-common -Wall -Wextra -Wshadow -Wundef \
	-Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
	-Wimplicit-fallthrough $(if $(WERROR),-Werror) $(SANITIZE)
HARDENING := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
LDFLAGS += -pie -Wl,-z,relro,-z,now $(SANITIZE)
LDLIBS := -lsystemd -lev -linih $(LLHTTP_LIBS)

SOURCES := $(wildcard src/*/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/*.c))

.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/baton

$(BUILD)/baton: $(BUILD)/src/main.o $(BUILD)/libbaton.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libbaton.a: $(OBJECTS) $(LLHTTP_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(HARDENING) -MMD -MP -c -o $@ $<

$(BUILD)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -g $(LLHTTP_CPPFLAGS) -w $(SANITIZE) $(HARDENING) -c -o $@ $<

$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libbaton.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(BUILD)/libbaton.a $(LDLIBS) -lcmocka

.PHONY: unit-tests
unit-tests: $(UNIT_TESTS)

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
