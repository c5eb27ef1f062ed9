# Baton. `make run` and `make check` are all a newcomer needs; `make help` lists the rest.

VERSION := 0.1.0

# systemd, sysusers and man look below /usr/local too; /usr itself is the package manager's.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
LIBEXECDIR ?= $(PREFIX)/libexec
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc/baton
BASHDIR ?= $(DATADIR)/bash-completion/completions
ZSHDIR ?= $(DATADIR)/zsh/site-functions
FISHDIR ?= $(DATADIR)/fish/vendor_completions.d

BUILD ?= build
JOBS ?= $(shell nproc)
CC ?= cc
CFLAGS ?= -O2 -g
WERROR ?=
SANITIZE ?=
# Options of prove(1), as in `make check PROVE_FLAGS=--verbose`.
PROVE_FLAGS ?=
FUZZ_SECONDS ?= 10

LLHTTP_SOURCES := $(wildcard /usr/share/llhttp/*.c)

# llhttp: a shared library where the system has one (Debian 13, Fedora), else the C source that
# Debian 12 ships, compiled as it is.
ifeq ($(LLHTTP_SOURCES),)
LLHTTP_LIBS := -lllhttp
else
LLHTTP_CPPFLAGS := -isystem /usr/share/include/llhttp
LLHTTP_OBJECTS := $(LLHTTP_SOURCES:/usr/share/llhttp/%.c=$(BUILD)/llhttp/%.o)
endif

# The sanitizers see more without _FORTIFY_SOURCE, and it needs an optimizing compiler.
FORTIFY := $(if $(SANITIZE)$(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDENING := $(FORTIFY) -fstack-protector-strong -fPIE

# So that -flto, which the packages have, makes the same of the same source.
REPRODUCIBLE = -frandom-seed=$@

override CPPFLAGS += -Isrc -D_GNU_SOURCE -DBATON_VERSION='"$(VERSION)"' $(LLHTTP_CPPFLAGS)
override CFLAGS += -std=gnu17 -fno-strict-aliasing -fno-common -Wall -Wextra -Wshadow -Wundef \
	-Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
	-Wimplicit-fallthrough $(if $(WERROR),-Werror) $(SANITIZE) $(HARDENING) \
	$(REPRODUCIBLE)
override LDFLAGS += -pie -Wl,-z,relro,-z,now $(SANITIZE)
LDLIBS := -lsystemd -lev -linih -lcares -lm $(LLHTTP_LIBS)

SOURCES := $(wildcard src/*/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/*.c))
LOAD := $(BUILD)/tests/support/load
SPOILER := $(BUILD)/tests/support/spoiler
BACKEND := $(BUILD)/tests/support/backend
LOAD_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/load*.c) \
	tests/support/websocket.c)
BACKEND_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/backend*.c) \
	tests/support/websocket.c tests/support/load_quantity.c)
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
STATIC_TESTS := tests/layers tests/format tests/install tests/completion tests/catalog \
	tests/pages
SCENARIO_TESTS := $(wildcard tests/scenario/*.t)
GUEST_TESTS := $(wildcard tests/guest/*.t)

# One line a step; `make V=1` shows the whole commands. $(call step,NAME,command)
step = $(if $(V),,@echo '  $(1)	$@';) $(2)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

##   make                  build build/baton
.PHONY: all
all: $(BUILD)/baton

$(BUILD)/baton: $(BUILD)/src/main.o $(BUILD)/libbaton.a
	$(call step,LINK,$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS))

$(BUILD)/libbaton.a: $(OBJECTS) $(LLHTTP_OBJECTS)
	@rm -f $@
	$(call step,AR,$(AR) rcs $@ $^)

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call step,CC,$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<)

$(BUILD)/llhttp/%.o: /usr/share/llhttp/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call step,CC,$(CC) $(CPPFLAGS) $(CFLAGS) -w -c -o $@ $<)

# A test program; $(1): the folder, $(2): further options.
define PROGRAM_RULE
$$(BUILD)/tests/$(1)/%: tests/$(1)/%.c $$(BUILD)/libbaton.a $$(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call step,CC,$$(CC) $$(CPPFLAGS) $$(CFLAGS) -MMD -MP $$(LDFLAGS) -o $$@ $$< \
		$$(BUILD)/libbaton.a $$(LDLIBS) $(2))
endef
$(eval $(call PROGRAM_RULE,unit,-lcmocka))
$(eval $(call PROGRAM_RULE,fuzz,-fsanitize=fuzzer))
$(eval $(call PROGRAM_RULE,support))
$(eval $(call PROGRAM_RULE,bench))

$(LOAD): $(LOAD_OBJECTS) $(BUILD)/libbaton.a
$(BACKEND): $(BACKEND_OBJECTS) $(BUILD)/libbaton.a
$(LOAD) $(BACKEND):
	$(call step,LINK,$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS))

# Changes, and with it every object, when the compiler's options do.
$(BUILD)/flags: export FLAGS = $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(LDLIBS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@[ "$$(cat $@ 2>/dev/null)" = "$$FLAGS" ] || echo "$$FLAGS" >$@

.PHONY: FORCE
FORCE:

# Where `make` installs packages first, what was missing can change the variables above.
SUBMAKE = +@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

##   make run              serve packaging/site on 127.0.0.1:8080, with what that needs installed
.PHONY: run
run:
	@packaging/dependencies run
	$(SUBMAKE) run-files
	@packaging/run $(abspath $(BUILD))

.PHONY: run-files
run-files: $(BUILD)/baton $(BUILD)/run/baton.conf
	@:

# Kept once made, so that whoever tries a reload can edit it.
$(BUILD)/run/baton.conf: packaging/baton.conf
	@mkdir -p $(@D)
	@sed 's|@site@|$(CURDIR)/packaging/site|' $< >$@

# A test that calls make gets the variables of this one, but not its job server.
TEST_ENVIRONMENT = BATON=$(abspath $(BUILD)/baton) BATON_BUILD=$(abspath $(BUILD)) \
	MAKEFLAGS='$(filter-out -j% --jobserver%,$(MAKEFLAGS))' MAKELEVEL=0
# Guests boot one after the other, and not beside a storm: they look at the time that a restart takes.
PROVE = @$(TEST_ENVIRONMENT) prove --jobs $(JOBS) --rules 'seq=tests/guest/*' --rules 'par=**' \
	$(PROVE_FLAGS)

##   make check            all tests, with what they need installed
.PHONY: check
check:
	@packaging/dependencies check
	$(SUBMAKE) test-programs
	$(PROVE) $(STATIC_TESTS) $(UNIT_TESTS) $(SCENARIO_TESTS)
	$(PROVE) $(GUEST_TESTS)

.PHONY: unit-tests test-programs
unit-tests: $(UNIT_TESTS)
test-programs: $(BUILD)/baton $(UNIT_TESTS) $(LOAD) $(BACKEND) $(SPOILER)
	@:

##   make unit-check       the tests of single modules
.PHONY: unit-check
unit-check: $(UNIT_TESTS)
	$(PROVE) $^

##   make scenario-check   the tests over real processes
.PHONY: scenario-check
scenario-check: test-programs
	$(PROVE) $(SCENARIO_TESTS)

##   make guest-check      the tests under a booted systemd; needs root
.PHONY: guest-check
guest-check: test-programs
	$(PROVE) $(GUEST_TESTS)

##   make layers-check     which part of the source may include which
##   make format-check     clang-format 14 would change nothing
##   make install-check    what `make install` installs
.PHONY: layers-check format-check install-check
layers-check format-check: %-check:
	$(PROVE) tests/$*
install-check: $(BUILD)/baton
	$(PROVE) tests/install

##   make bench            how fast it is, beside nginx, h2o, lighttpd and HAProxy, which it installs
.PHONY: bench
bench:
	@packaging/dependencies bench
	$(SUBMAKE) BUILD=$(BUILD)-lto CFLAGS='-O2 -g -flto=auto' LDFLAGS=-flto=auto bench-speed
.PHONY: bench-speed
bench-speed: $(BUILD)/baton $(LOAD) $(BUILD)/tests/bench/floor
	@$(TEST_ENVIRONMENT) tests/bench/speed

##   make bench-reload     what a reload costs, beside nginx and HAProxy where they are installed
.PHONY: bench-reload
bench-reload: $(BUILD)/baton $(LOAD)
	@$(TEST_ENVIRONMENT) tests/bench/reload

##   make bench-tunnels    what a reload does to WebSockets, beside nginx and HAProxy
.PHONY: bench-tunnels
bench-tunnels: $(BUILD)/baton $(LOAD) $(BACKEND)
	@$(TEST_ENVIRONMENT) tests/bench/tunnels

##   make packages-check   what `make deb` and `make rpm` build, with lintian and rpmlint
.PHONY: packages-check
packages-check:
	$(PROVE) tests/packages

##   make manifests-check  the files of packaging/container, with node and packages of npm
# Read as what they are for would read them. Only CI has to have what that needs.
MANIFESTS := $(BUILD)/manifests
.PHONY: manifests-check
manifests-check: $(MANIFESTS)/package.json
	$(PROVE) --exec node tests/manifests/check.mjs :: $(abspath $(MANIFESTS))

$(MANIFESTS)/package.json: tests/manifests/package.json
	@mkdir -p $(@D)
	@cp $< $@
	@cd $(@D) && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts

##   make format           let clang-format 14 change the source, and wrap the man pages
.PHONY: format
format:
	@tests/format --write
	@tests/pages --write

##   make lint             clang-tidy over the source
.PHONY: lint
lint: $(patsubst %,lint/%,$(wildcard src/*.c src/*/*.c tests/support/*.c))

# Its stderr only counts the warnings of system headers that it does not show.
lint/%:
	@mkdir -p $(BUILD)/$(@D)
	@clang-tidy --quiet $* -- $(CPPFLAGS) -std=gnu17 2>$(BUILD)/$@.log || \
		{ cat $(BUILD)/$@.log; exit 1; }

##   make sanitize-check   unit and scenario tests under ASan and UBSan
.PHONY: sanitize-check
sanitize-check: export ASAN_OPTIONS ?= detect_stack_use_after_return=1:strict_string_checks=1
sanitize-check: export UBSAN_OPTIONS ?= print_stacktrace=1
sanitize-check: export BATON_TEST_SLOW ?= 4
sanitize-check:
	$(SUBMAKE) BUILD=$(BUILD)-asan CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' \
		unit-check scenario-check

##   make fuzz             every reader of foreign bytes, for FUZZ_SECONDS=10 each
.PHONY: fuzz
fuzz:
	$(SUBMAKE) BUILD=$(BUILD)-fuzz CC=clang CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' \
		$(FUZZ_TARGETS:%=fuzz-run/%)

.PRECIOUS: $(BUILD)/tests/fuzz/%

# New inputs go to the first folder; the seeds in the tree are only read.
fuzz-run/%: $(BUILD)/tests/fuzz/%
	@mkdir -p $(BUILD)/corpus/$*
	@$< -max_total_time=$(FUZZ_SECONDS) -timeout=5 -artifact_prefix=$(BUILD)/$*- \
		$(BUILD)/corpus/$* $(wildcard tests/fuzz/corpus/$*) 2>$(BUILD)/$*.log || \
		{ tail -n 60 $(BUILD)/$*.log; exit 1; }
	@echo "$*: $$(tail -n 1 $(BUILD)/$*.log)"

UNITS := $(patsubst units/%,$(UNITDIR)/%,$(wildcard units/*)) $(UNITDIR)/baton@.service
# The service of an instance is baton.service in other places.
INSTANCE := sed -e 's|baton/baton\.conf|baton/%i.conf|' -e 's|^Description=.*|& %i|' \
	-e 's|baton\(-admin\)\?\.socket|baton\1@%i.socket|g' -e 's|^RuntimeDirectory=baton|&-%i|'
COMPLETIONS := $(BASHDIR)/baton $(ZSHDIR)/_baton $(FISHDIR)/baton.fish
# packaging/man/baton.8 goes to man8/baton.8.
MAN_PAGES := $(foreach page,$(notdir $(wildcard packaging/man/*.[1-8])),\
	$(MANDIR)/man$(patsubst .%,%,$(suffix $(page)))/$(page))
SUBSTITUTE = sed -i -e 's|@bindir@|$(BINDIR)|g' -e 's|@sysconfdir@|$(SYSCONFDIR)|g' \
	-e 's|@site@|$(DATADIR)/baton/site|g' -e 's|@version@|$(VERSION)|g'

##   make install          to PREFIX=/usr/local and SYSCONFDIR=/etc, below DESTDIR=
# The binary is renamed into place, so that no reload meets half of it.
.PHONY: install
install: $(BUILD)/baton install-configuration
	install -D -m 755 $(BUILD)/baton $(DESTDIR)$(BINDIR)/.baton.new
	mv $(DESTDIR)$(BINDIR)/.baton.new $(DESTDIR)$(BINDIR)/baton
	install -D -m 644 -t $(DESTDIR)$(UNITDIR) units/*
	$(INSTANCE) units/baton.service >$(DESTDIR)$(UNITDIR)/baton@.service
	install -D -m 644 -t $(DESTDIR)$(SYSUSERSDIR) packaging/sysusers.d/baton.conf
	install -D -m 644 -t $(DESTDIR)$(TMPFILESDIR) packaging/tmpfiles.d/baton.conf
	install -D -m 644 -t $(DESTDIR)$(CATALOGDIR) packaging/baton.catalog
	install -D -m 644 -t $(DESTDIR)$(DATADIR)/baton/site packaging/site/*
	install -D -m 644 -t $(DESTDIR)$(DOCDIR)/examples packaging/examples/*
	install -D -m 644 packaging/completion/baton.bash $(DESTDIR)$(BASHDIR)/baton
	install -D -m 644 packaging/completion/baton.zsh $(DESTDIR)$(ZSHDIR)/_baton
	install -D -m 644 packaging/completion/baton.fish $(DESTDIR)$(FISHDIR)/baton.fish
	@set -ex; $(foreach page,$(MAN_PAGES),\
		install -D -m 644 packaging/man/$(notdir $(page)) $(DESTDIR)$(page);)
	$(SUBSTITUTE) $(addprefix $(DESTDIR),$(UNITS) $(MAN_PAGES))
ifeq ($(DESTDIR),)
	@if [ "$$(id -u)" -eq 0 ]; then set -ex; systemd-sysusers $(SYSUSERSDIR)/baton.conf; \
		journalctl --update-catalog; \
		[ ! -d /run/systemd/system ] || systemctl daemon-reload; fi
	@echo 'Installed. To start it: systemctl enable --now baton.socket'
endif

# An installed configuration is the admin's; a package's is the package manager's to keep.
.PHONY: install-configuration
install-configuration: CONFIGURATION = $(DESTDIR)$(SYSCONFDIR)/baton/baton.conf
install-configuration:
	install -d $(CONFIGURATION).d
	@if [ -n "$(DESTDIR)" ] || [ ! -e $(CONFIGURATION) ]; then set -ex; \
		install -m 644 packaging/baton.conf $(CONFIGURATION); \
		$(SUBSTITUTE) $(CONFIGURATION); fi

# What only packages bring along: what their scripts call after an upgrade, and logrotate.
.PHONY: install-package-parts
install-package-parts:
	install -D -m 755 -t $(DESTDIR)$(LIBEXECDIR)/baton packaging/upgrade
	install -D -m 644 packaging/logrotate $(DESTDIR)$(SYSCONFDIR)/logrotate.d/baton
	$(SUBSTITUTE) $(DESTDIR)$(LIBEXECDIR)/baton/upgrade

##   make deb              build/deb/: Debian packages of this tree, for this release
##   make rpm              build/rpm/: the same for Fedora and its kin
.PHONY: deb rpm
deb rpm:
	@packaging/dependencies $@
	@packaging/package $@ $(abspath $(BUILD))/$@ $(VERSION)

##   make uninstall        what install installed, but for the configuration and the user
.PHONY: uninstall
uninstall:
	rm -f $(addprefix $(DESTDIR),$(BINDIR)/baton $(UNITS) $(SYSUSERSDIR)/baton.conf \
		$(TMPFILESDIR)/baton.conf $(CATALOGDIR)/baton.catalog $(MAN_PAGES) $(COMPLETIONS))
	rm -rf $(addprefix $(DESTDIR),$(DATADIR)/baton $(DOCDIR))

##   make clean            remove what was built
.PHONY: clean
clean:
	rm -rf $(BUILD) $(addprefix $(BUILD)-,asan fuzz gcc clang lto)

.PHONY: help
help:
	@sed -n 's/^##   //p' $(firstword $(MAKEFILE_LIST))

-include $(shell find $(BUILD)/src $(BUILD)/tests -name '*.d' 2>/dev/null)
