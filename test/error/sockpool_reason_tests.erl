%%% Reasons as they are told and logged: small, and without arguments.
-module(sockpool_reason_tests).

-include_lib("eunit/include/eunit.hrl").

-import(sockpool_reason, [bounded/1, of_exception/3, of_exit/1]).

-export([only_of/1]).

-define(MAX_BYTES, 20000).

small_terms_stay_test_() ->
    [?_assertEqual(Term, bounded(Term))
     || Term <- [closed, {error, wrong_password}, [], [a], [a | b], {}, #{}, #{a => [1, #{}]}, <<>>,
                 <<"ERR max clients">>, <<1:3>>, 1.5, 1 bsl 1000, -1, self(), make_ref(), "a text",
                 {unexpected, <<0:4000>>}, lists:seq(1, 900)]].

large_terms_are_cut_test_() ->
    Deep = fun(Wrap) -> lists:foldl(fun(_, Inner) -> Wrap(Inner) end, x, lists:seq(1, 100000)) end,
    [{atom_to_list(Name), fun() -> is_cut(Term) end}
     || {Name, Term} <- [{list, lists:seq(1, 100000)}, {tuple, list_to_tuple(lists:seq(1, 100000))},
                         {binary, binary:copy(<<"x">>, 1000000)}, {bits, <<0:8000001>>},
                         {binaries, [binary:copy(<<"x">>, 900) || _ <- lists:seq(1, 1000)]},
                         {map_of_many, maps:from_list([{N, N} || N <- lists:seq(1, 100000)])},
                         {key, #{lists:seq(1, 100000) => x}},
                         {lists, Deep(fun(Inner) -> [Inner] end)},
                         {tails, Deep(fun(Inner) -> [a | Inner] end)},
                         {tuples, Deep(fun(Inner) -> {Inner} end)},
                         {maps, Deep(fun(Inner) -> #{k => Inner} end)},
                         {number, 1 bsl 100000}, {negative, -(1 bsl 100000)},
                         {fun_of_much, closing_over(lists:seq(1, 100000))}]].

closing_over(Much) -> fun() -> Much end.

is_cut(Term) ->
    Bounded = bounded(Term),
    ?assertNotEqual(Term, Bounded),
    ?assert(erlang:external_size(Bounded) < ?MAX_BYTES),
    ?assert(erlang:external_size(of_exit({Term, {m, f, Term}})) < ?MAX_BYTES),
    {error, _, _} = Exception = of_exception(error, Term, [{m, f, Term, [{line, Term}]}]),
    ?assert(erlang:external_size(Exception) < ?MAX_BYTES).

%% A list that is cut says so, and what was before is there.
beginning_stays_test() ->
    {init, [first | Rest]} = bounded({init, [first | lists:duplicate(100000, x)]}),
    ?assertEqual('...', lists:last(Rest)),
    <<"begins", _/binary>> = Cut = bounded(<<"begins", 0:80000>>),
    ?assertEqual(<<"...">>, binary:part(Cut, byte_size(Cut), -3)).

%% Its memory is not that of the whole.
part_of_a_binary_is_a_copy_test() ->
    Cut = bounded(binary:copy(<<"x">>, 1000000)),
    ?assert(binary:referenced_byte_size(Cut) < 4 * byte_size(Cut)).

no_arguments_test_() ->
    Secret = iolist_to_binary(io_lib:format("hunter~b", [2])),
    [{atom_to_list(Name), ?_assertEqual(nomatch, string:find(io_lib:format("~p", [Told]), "hunter2"))}
     || {Name, Told} <- [{undef, crashed(fun() -> no_such_module:login(self(), Secret) end)},
                         {clause, crashed(fun() -> ?MODULE:only_of(Secret) end)},
                         {fun_clause, crashed(fun() -> apply(fun(x) -> y end, [Secret]) end)},
                         {native, crashed(fun() -> apply(erlang, atom_to_list, [Secret]) end)},
                         {call, crashed(fun() -> gen_server:call(nobody_here, {login, Secret}) end)},
                         {died, died(fun() -> ?MODULE:only_of(Secret) end)},
                         {called, died(fun() -> gen_server:call(nobody_here, {login, Secret}) end)},
                         {both, of_exit({{function_clause, [{m, f, [Secret], []}]}, {m, f, [Secret]}})},
                         {exit_in_exit, of_exit({{noproc, {m, f, [Secret]}}, {m, g, [Secret]}})},
                         {sealed, sockpool_reason:bounded(sockpool_secret:seal(Secret))}]].

only_of(x) -> ok.

crashed(Fun) ->
    try Fun() of
        Result -> error({did_not_crash, Result})
    catch
        Class:Reason:Stack -> of_exception(Class, Reason, Stack)
    end.

%% As the emulator ends a process that has raised, without its report.
died(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        try Fun() of
            _ -> ok
        catch
            error:Reason:Stack -> exit({Reason, Stack})
        end
    end),
    receive {'DOWN', Monitor, process, Pid, Reason} -> of_exit(Reason) end.

%% Where it happened, and in what.
stack_stays_test() ->
    {error, function_clause, [{?MODULE, only_of, 1, Where} | _]} =
        crashed(fun() -> ?MODULE:only_of(secret) end),
    ?assertMatch([{file, _}, {line, _}], Where),
    ?assertMatch({exit, {noproc, {gen_server, call, 2}}, [_ | _]},
                 crashed(fun() -> gen_server:call(nobody_here, login) end)).

%% What a process can end with is anything.
what_is_no_stack_test_() ->
    [?_assert(is_tuple(of_exit(Reason)))
     || Reason <- [{a, [{m, f, 1, []} | improper]}, {a, [{m, f, 1, [improper | list]}]}, {a, [{m, f, 1, x}]},
                   {a, {m, f, [improper | list]}}, {a, [{m, f, [x | y], []}, b, {c}]}]].
