%%% The options of the daemon, which are a table in C, against those of sockpool_opts and sockpool_tls:
%%% the daemon shows its table.
-module(sockpool_node_options_tests).

-include_lib("eunit/include/eunit.hrl").

%% A fun cannot be called in C, and says so.
-define(ONLY_ALLOWED_IN_ERLANG, ["init", "tls.password", "cookie"]).

agreement_test_() ->
    case sockpool_c_daemon:is_built() of
        false -> [];
        true -> [fun same_keys/0, fun same_defaults/0, fun same_words/0]
    end.

same_keys() ->
    {ok, Opts} = sockpool_opts:parse(p, #{transport => tls, host => "h", port => 1}),
    Tls = maps:get(tls, Opts),
    Keys = [atom_to_list(Key) || Key <- maps:keys(Opts)]
        ++ ["tls." ++ atom_to_list(Key) || Key <- maps:keys(Tls)],
    ?assertEqual(lists:sort(Keys), lists:sort([Key || {Key, _, _} <- table()])).

%% Where an option has to be given, its default is read from the error.
same_defaults() ->
    {ok, Tls} = sockpool_tls:parse(#{}),
    {ok, Opts} = sockpool_opts:parse(p, #{transport => unix, path => "s"}),
    Defaults = Opts#{name := undefined, transport := tcp, path := undefined},
    ?assertEqual({error, {bad_option, host, undefined}}, sockpool_opts:parse(p, #{port => 1})),
    ?assertMatch({ok, #{transport := tcp}}, sockpool_opts:parse(p, #{host => "h", port => 1})),
    [?assertEqual({Key, default(Key, Defaults, Tls)}, {Key, Default})
     || {Key, Default, _} <- table()].

default("tls." ++ Key, _Defaults, Tls) -> maps:get(list_to_existing_atom(Key), Tls);
default(Key, Defaults, _Tls) -> maps:get(list_to_existing_atom(Key), Defaults).

same_words() ->
    [?assertEqual({Key, allowed(Key)}, {Key, Allowed})
     || {Key, _, Allowed} <- table(), not lists:member(Key, ?ONLY_ALLOWED_IN_ERLANG)].

allowed(Key) ->
    Message = sockpool_opts:format_error({bad_option, key(Key), {wrong}}),
    [_, Allowed] = string:split(Message, " it must be "),
    Allowed.

key("tls." ++ Key) -> {tls, list_to_existing_atom(Key)};
key(Key) -> list_to_existing_atom(Key).

%% [{Key, Default, Allowed}]
table() ->
    Lines = string:lexemes(os:cmd(sockpool_c_daemon:program() ++ " --options"), "\n"),
    [{Key, term(Default), Allowed} || Line <- Lines,
                                      [Key, Default, Allowed] <- [string:split(Line, "\t", all)]].

term(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
