# For the Makefiles that compile node/option: DIR/pool_rows.h and DIR/tls_rows.h, the options of a pool and of its
# TLS as tables in C, for whatever DIR they name.
ROWS_HERE := $(dir $(lastword $(MAKEFILE_LIST)))
ROWS_OF := $(ROWS_HERE)../src/option/sockpool_option_table.erl
ERL ?= erl
ESCRIPT ?= $(shell $(ERL) -noshell -noinput -eval 'io:format("~ts/bin/escript", [code:root_dir()]), halt().')

%_rows.h: $(ROWS_HERE)option_rows.escript $(ROWS_OF)
	@mkdir -p $(@D)
	@$(ESCRIPT) $< $(ROWS_OF) $(notdir $*) >$@.$$$$ && mv $@.$$$$ $@
