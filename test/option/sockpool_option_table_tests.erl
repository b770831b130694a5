%%% The one table of options against all that cannot be made of it: types, Gleam's builders, and the code that reads
%%% options. The daemon's tables are sockpool_node_options_tests', the documents' sockpool_docs_SUITE's.
-module(sockpool_option_table_tests).

-include_lib("eunit/include/eunit.hrl").

keys(Rows) -> [Key || {Key, _, _, _} <- Rows].

%% In the table's order.
types_list_the_options_test_() ->
    {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} =
        beam_lib:chunks(code:which(sockpool_option_table), [abstract_code]),
    [?_assertEqual(keys(Rows),
                   [Key || {attribute, _, type, {Name, {type, _, union, [{type, _, map, Fields} | _]}, []}} <- Forms,
                           Name =:= Type, {type, _, map_field_assoc, [{atom, _, Key}, _]} <- Fields])
     || {Type, Rows} <- [{options, sockpool_option_table:pool()}, {tls_options, sockpool_option_table:tls()}]].

gleam_has_a_setting_for_each_test_() ->
    [?_assertEqual(lists:sort(keys(Rows)) -- [name], lists:sort(settings(File)))
     || {File, Rows} <- [{"options.gleam", sockpool_option_table:pool()}, {"tls.gleam", sockpool_option_table:tls()}]].

%% The constructors of its type Setting.
settings(File) ->
    {ok, Source} = file:read_file(filename:join([sockpool_test_util:root(), "gleam/src/sockpool", File])),
    {match, [Body]} = re:run(Source, "^type Setting \\{\n(.*?)^\\}", [multiline, dotall, {capture, [1], binary}]),
    {match, Names} = re:run(Body, "^  ([A-Z][A-Za-z]*)\\(", [multiline, global, {capture, [1], list}]),
    [list_to_atom(snake_case(Name)) || [Name] <- Names].

snake_case(Name) ->
    "_" ++ Snake = lists:append([case Char >= $A andalso Char =< $Z of
                                     true -> [$_, Char - $A + $a];
                                     false -> [Char]
                                 end || Char <- Name]),
    Snake.

%% A default is what a user might have given, normalised already.
defaults_are_right_test_() ->
    [{atom_to_list(Key), ?_assertEqual({ok, Default}, sockpool_option:check(Kind, Default))}
     || {Key, Default, Kind, _} <- sockpool_option_table:pool() ++ sockpool_option_table:tls(), Key =/= name].

%% c_src/option_rows.escript writes them into C as they are.
words_are_printable_ascii_test_() ->
    [{lists:concat([Key, " ", Face]),
      fun() ->
              Words = sockpool_option_table:allowed(Face, Row),
              ?assert(length(Words) > 5),
              ?assertEqual([], [Char || Char <- Words, Char < $\s orelse Char > $~])
      end}
     || {Key, _, _, _} = Row <- sockpool_option_table:pool() ++ sockpool_option_table:tls(), Face <- [vm, daemon]].

with_transports_test_() ->
    Note = fun(Rules) ->
                   "an integer from 1 to 2" ++ Words = sockpool_option_table:allowed(vm, {k, 1, {integer, 1, 2}, Rules}),
                   Words
           end,
    [?_assertEqual(Expected, Note(Rules))
     || {Rules, Expected} <-
            [{[], ""},
             {[{note, "n"}], " (n)"},
             {[{refused, [unix]}, {note, "n"}], " (not with transport unix; n)"},
             {[{refused, [tcp, unix, worker]}], " (only with transport tls or node)"},
             {[{required, [tcp, tls]}, {refused, [unix]}], " (required with transport tcp and tls, not allowed with unix)"},
             {[{required, [node]}, {refused, [tcp, tls, unix, worker]}], " (required with transport node, not allowed with others)"}]].

%% What the library and the pool's modules read out of the options is in the table.
options_that_are_read_test_() ->
    Pool = keys(sockpool_option_table:pool()),
    Tls = keys(sockpool_option_table:tls()),
    %% What is made of options for the library.
    Made = [backoff_min, backoff_max, lifetime_min, lifetime_max, keepalive_times, health_interval, health_timeout, silence, check, cut],
    TlsMade = [min_version, max_version, turn],
    Modules = [{sockpool_pool, Pool}, {sockpool_connector, Pool}, {sockpool_opts, Pool}, {sockpool_session, Pool},
               {sockpool_tls, Tls ++ [password]}],
    [?_assertEqual([], lists:usort(asked("sp_nif_config.c")) -- (Pool ++ Made)),
     ?_assert(length(asked("sp_nif_config.c")) > 15),
     ?_assertEqual([], lists:usort(asked("sp_nif_tls.c")) -- (Tls ++ TlsMade)),
     ?_assert(length(asked("sp_nif_tls.c")) > 10)]
        ++ [{atom_to_list(Module), [?_assertEqual([], read_by(Module) -- Known), ?_assertNotEqual([], read_by(Module))]}
            || {Module, Known} <- Modules].

%% The keys that the library looks for.
asked(File) ->
    {ok, Library} = file:read_file(filename:join([sockpool_test_util:root(), "c_src/nif", File])),
    {match, Asked} = re:run(Library, "get_[a-z_]+\\(env, [a-z0-9\\[\\]]+, \"([a-z_0-9]+)\"", [global, {capture, [1], list}]),
    [list_to_atom(Key) || [Key] <- Asked].

%% The daemon makes something of every row, but for those that it refuses with all of its transports, and of each that may
%% change while a pool runs also then. It has no funs to call, and nobody waits for a start there.
options_that_the_daemon_uses_test_() ->
    [{atom_to_list(Key), ?_assertMatch({match, _}, re:run(source(File), used(Key, Kind, Rules)))}
     || {File, Rows} <- [{"sn_options.c", sockpool_option_table:pool()}, {"sn_options_tls.c", sockpool_option_table:tls()}],
        {Key, _, Kind, Rules} <- Rows, Kind =/= start, proplists:get_value(refused, Rules, []) =/= sockpool_option_table:transports(daemon)].

used(Key, Kind, Rules) ->
    Changes = lists:keymember(Key, 1, sockpool_option_table:pool()) andalso not lists:member(restart, Rules)
        andalso not is_callback(Kind),
    case Changes of
        true -> "case " ++ string:uppercase(atom_to_list(Key)) ++ ":";
        false -> "\\[" ++ string:uppercase(atom_to_list(Key)) ++ "\\]"
    end.

is_callback({optional, {callback, _, _}}) -> true;
is_callback(_Kind) -> false.

source(File) ->
    {ok, Text} = file:read_file(filename:join([sockpool_test_util:root(), "c_src/node/option", File])),
    Text.

%% The keys that it looks for in what it calls Opts or Parsed: patterns, and maps:get/2,3.
read_by(Module) ->
    {ok, {_, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(code:which(Module), [abstract_code]),
    lists:usort(read(Forms)).

read({match, _, {map, _, Fields}, {var, _, Var}}) when Var =:= 'Opts'; Var =:= 'Parsed' ->
    [Key || {map_field_exact, _, {atom, _, Key}, _} <- Fields];
read({'case', _, {var, _, 'Opts'}, Clauses}) ->
    [Key || {clause, _, [{map, _, Fields}], _, _} <- Clauses, {map_field_exact, _, {atom, _, Key}, _} <- Fields]
        ++ read(Clauses);
read({call, _, {remote, _, {atom, _, maps}, {atom, _, get}}, [{atom, _, Key}, {var, _, Var} | _]})
  when Var =:= 'Opts'; Var =:= 'Parsed' ->
    [Key];
read(Tuple) when is_tuple(Tuple) -> read(tuple_to_list(Tuple));
read([First | Rest]) -> read(First) ++ read(Rest);
read(_Other) -> [].
