%%% The options that the daemon shows are those of the table: their keys, defaults and words, in its order.
-module(sockpool_node_options_tests).

-include_lib("eunit/include/eunit.hrl").

daemon_shows_the_table_test_() ->
    case sockpool_c_daemon:is_built() of
        false -> [];
        true -> [?_assertEqual(rows("", sockpool_option_table:pool()) ++ rows("tls.", sockpool_option_table:tls()), shown())]
    end.

rows(Prefix, Rows) ->
    [{Prefix ++ atom_to_list(Key), Default, sockpool_option_table:allowed(daemon, Row)} || {Key, Default, _, _} = Row <- Rows].

shown() ->
    Lines = string:lexemes(os:cmd(sockpool_c_daemon:program() ++ " --options"), "\n"),
    [{Key, term(Default), Allowed} || Line <- Lines, [Key, Default, Allowed] <- [string:split(Line, "\t", all)]].

term(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
