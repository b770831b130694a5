#!/usr/bin/env escript
%% option_rows.escript TABLE pool|tls
%%
%% Prints the rows of a table of sockpool_option_table.erl, whose source is TABLE, as C: an enum of the options and
%% an array `ROW' of struct sn_option (node/option/sn_option.h); and an enum of the words of each option that is one of
%% several. Each kind of value has a check of its name there.
-define(WORDS_MAX, 4). % as in sn_option.h
-define(ATOM_CHARS, 21).
-define(TERM_BYTES, 31).

main([Table, Which]) ->
    {ok, Module, Code} = compile:file(Table, [binary, report_errors]),
    {module, Module} = code:load_binary(Module, Table, Code),
    Rows = Module:(list_to_existing_atom(Which))(),
    io:format("/* Made of ~ts. */~nenum {~ts ROWS};~n~ts~nstatic const struct sn_option ROW[ROWS] = {~n~ts};~n",
              [filename:basename(Table), [[name(Key), ", "] || {Key, _, _, _} <- Rows],
               [words(Key, here(Module, Atoms)) || {Key, _, {one_of, Atoms}, _} <- Rows], [row(Module, Row) || Row <- Rows]]).

%% Without the transports that the daemon does not have.
here(Module, Atoms) -> Atoms -- (Module:transports(vm) -- Module:transports(daemon)).

words(Key, Atoms) ->
    true = length(Atoms) =< ?WORDS_MAX,
    ["enum {", [[name(Key), "_", name(Atom), ", "] || Atom <- Atoms], "};\n"].

row(Module, {Key, Default, Kind, Rules} = Row) ->
    Allowed = Module:allowed(daemon, Row),
    io_lib:format("    [~ts] = {.key = ~ts, .def = ~ts, .allowed = ~ts, ~ts~ts},~n",
                  [name(Key), atom(Key), term(Default), text(Allowed),
                   [kind(Module, Kind) | [", .restart = true" || lists:member(restart, Rules)]],
                   [[", .", atom_to_list(Rule), " = ", transports(Transports)]
                    || {Rule, Named} <- Rules, Rule =/= note, Transports <- [here(Module, Named)], Transports =/= []]]).

kind(Module, {optional, Kind}) -> [kind(Module, Kind), ", .also = \"undefined\""];
kind(Module, {or_infinity, Kind}) -> [kind(Module, Kind), ", .also = \"infinity\""];
kind(Module, {one_of, Atoms}) ->
    [check(word), ", .words = {", lists:join(", ", [text(atom_to_list(Atom)) || Atom <- here(Module, Atoms)]), "}"];
kind(Module, {integer, _, _} = Kind) -> [check(number), bounds(Module, Kind)];
kind(Module, {ms, _} = Kind) -> [check(number), bounds(Module, Kind), ", .scale = SP_MS"];
kind(Module, bytes = Kind) -> [check(number), bounds(Module, Kind)];
kind(Module, Kind) when Kind =:= validate; Kind =:= backoff; Kind =:= lifetime ->
    [check(Kind), bounds(Module, Kind), ", .scale = SP_MS", written(Kind)];
kind(Module, Kind) when Kind =:= path; Kind =:= server_name; Kind =:= cookie; Kind =:= alpn ->
    [check(Kind), bounds(Module, Kind), written(Kind)];
kind(_Module, {text, _}) -> [check(text), ", .min = 1, .max = SN_OPTIONS_BYTES_MAX", written(text)];
kind(_Module, {callback, _, _}) -> [check(nothing), written(callback)];
kind(_Module, start) -> [check(word), ", .words = {\"async\"}"];
kind(_Module, worker) -> [check(nothing), written(worker)];
kind(_Module, password) -> [check(nothing), written(password)];
kind(_Module, Kind) -> [check(Kind), written(Kind)].

check(Kind) -> [".check = sn_check_", atom_to_list(Kind)].

bounds(Module, Kind) ->
    {Min, Max} = Module:bounds(Kind),
    io_lib:format(", .min = ~b, .max = ~b", [Min, Max]).

%% In a configuration file.
written(Kind) ->
    How = #{packet => framing, node_name => plain, versions => plain,
            hosts => text, path => text, text => text, server_name => text, alpn => text,
            keepalive => object, health => object, ip_address => address, backoff => tuple, lifetime => tuple, validate => 'after', tls => tls,
            pool_name => 'not', callback => 'not', worker => 'not', password => 'not', cookie => 'not', certs => 'not'},
    [", .written = SN_WRITTEN_", name(maps:get(Kind, How))].

name(Atom) -> string:uppercase(atom_to_list(Atom)).

transports(Transports) -> lists:join(" | ", [["1u << SN_", name(Transport)] || Transport <- Transports]).

%% In external format.
term(Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term, [{minor_version, 2}]),
    true = byte_size(Bytes) =< ?TERM_BYTES,
    io_lib:format("{~b, {~ts}}", [byte_size(Bytes), lists:join(", ", [integer_to_list(Byte) || <<Byte>> <= Bytes])]).

atom(Atom) ->
    Text = atom_to_list(Atom),
    true = length(Text) =< ?ATOM_CHARS,
    io_lib:format("{'w', ~b, ~ts}", [length(Text), text(Text)]).

%% All characters of the table are printable ASCII.
text(Text) -> [$", [case Char of $" -> "\\\""; $\\ -> "\\\\"; _ -> Char end || Char <- Text], $"].
