%%% sockpool_tls: the options of transport => tls.
-module(sockpool_tls_tests).

-include_lib("eunit/include/eunit.hrl").

%% For sockpool_node_config_SUITE.
-export([table/0]).

%% Per option: {Key, [{Given, Normalised}], [Wrong], words that its message must have}.
table() ->
    Fun = fun() -> "secret" end,
    Paths = [{"/a/b.pem", <<"/a/b.pem">>}, {<<"c">>, <<"c">>}, {"/\x{e4}", <<"/\x{e4}"/utf8>>},
             {undefined, undefined}],
    Long = lists:duplicate(256, $a),
    NoText = ["", <<>>, "a\0b", <<"a", 0>>, 1, atom, [-1], [a | b], ["a", "b"], [<<"a">>]],
    [{verify, same([peer, none]), [true, verify_peer, undefined], "peer, none"},
     {cacertfile, Paths, NoText, "path"},
     {cacerts, [{undefined, undefined}, {[<<1>>, {cert, <<2>>, otp}], [<<1>>, <<2>>]}],
      [[], <<1>>, [""], [<<>>], [{cert, x, y}], [<<1>> | <<2>>]], "cacerts_get"},
     {server_name, [{"db.example", <<"db.example">>}, {<<"::1">>, <<"::1">>}],
      [Long, ".example", "a b", "d\x{f6}m" | NoText], "host name"},
     {certfile, Paths, NoText, "path"},
     {keyfile, [{undefined, undefined}], NoText, "path"},
     {versions, [{['tlsv1.3', 'tlsv1.2'], ['tlsv1.2', 'tlsv1.3']},
                 {['tlsv1.3'], ['tlsv1.3']}, {['tlsv1.2'], ['tlsv1.2']}],
      [[], ['tlsv1.1'], ['tlsv1.1', 'tlsv1.2'], 'tlsv1.3', undefined,
       ['tlsv1.2' | 'tlsv1.3']], "tlsv1.2"},
     {ciphers, [{"HIGH:!aNULL", <<"HIGH:!aNULL">>}], NoText, "cipher"},
     {ciphersuites, [{<<"X">>, <<"X">>}], NoText, "suites"},
     {groups, [{"X25519:P-256", <<"X25519:P-256">>}], NoText, "X25519"},
     {alpn, [{[], []}, {["h2", <<"http/1.1">>], [<<"h2">>, <<"http/1.1">>]}],
      [h2, "h2", [""], [Long], [<<"a">> | <<"b">>]], "protocol names"},
     {session_reuse, same([true, false]), [1, yes, undefined], "true, false"},
     {keylog, Paths, NoText, "path"},
     {ktls, same([true, false]), [1, yes, undefined], "true, false"},
     {password, same([Fun, undefined]), [], "fun"}].

same(Values) -> [{Value, Value} || Value <- Values].

right_values_test_() ->
    [{lists:flatten(io_lib:format("~p => ~0tp", [Key, Given])), fun() ->
          {ok, Opts} = sockpool_option:tls(#{Key => Given}),
          ?assertEqual(Normalised, maps:get(Key, Opts)),
          ?assertEqual({ok, Opts}, sockpool_option:tls([{Key, Given}])),
          ?assertEqual({ok, Opts}, sockpool_option:tls(Opts))
      end}
     || {Key, Right, _Wrong, _Words} <- table(), {Given, Normalised} <- Right].

wrong_values_test_() ->
    [{lists:flatten(io_lib:format("~p => ~0tp", [Key, Value])),
      fun() ->
          ?assertEqual({error, {bad_option, {tls, Key}, Value}},
                       sockpool_option:tls(#{Key => Value})),
          Message = sockpool_opts:format_error({bad_option, {tls, Key}, Value}),
          [?assertNotEqual({nomatch, Part}, {string:find(Message, Part), Part})
           || Part <- [atom_to_list(Key), Words]]
      end}
     || {Key, _Right, Wrong, Words} <- table(), Value <- Wrong].

every_option_is_tested_test() ->
    {ok, Opts} = sockpool_option:tls(#{}),
    ?assertEqual(lists:sort(maps:keys(Opts)), lists:sort([Key || {Key, _, _, _} <- table()])).

safe_by_default_test() ->
    ?assertMatch({ok, #{verify := peer, versions := ['tlsv1.2', 'tlsv1.3'], keylog := undefined}},
                 sockpool_option:tls(#{})).

%% A password in clear is refused without being repeated.
password_must_be_a_fun_test_() ->
    [?_assertEqual({error, {bad_option, {tls, password}, not_a_fun}},
                   sockpool_option:tls(#{password => Password}))
     || Password <- ["secret", <<"secret">>, fun(X) -> X end]].

%% What goes wrong on the way into C is told without the arguments, and nothing crashes, which would log
%% them.
failing_calls_do_not_repeat_the_password_test_() ->
    {ok, Opts} = sockpool_option:tls(#{password => fun() -> "secret" end}),
    Pool = sockpool_nif:pool_new(password_test, 1),
    [?_assertEqual({error, {tls, {configure, badarg}}},
                   sockpool_tls:configure(make_ref(), Opts, 1, 5000)),
     ?_assertEqual({error, {tls, {configure, badarg}}},
                   sockpool_tls:configure(Pool, Opts, not_a_turn, 5000)),
     ?_assertEqual({error, {tls, {configure, badarg}}},
                   sockpool_tls:configure(Pool, Opts#{ktls := no_flag}, 1, 5000)),
     %% Fails with a badmatch of all the options.
     ?_assertEqual({error, {tls, {configure, error}}},
                   sockpool_tls:configure(Pool, maps:remove(versions, Opts), 1, 5000))].

%% What the fun does is told by a name, never by what it returned or raised.
password_fun_that_fails_test_() ->
    Pool = sockpool_nif:pool_new(password_fun_test, 1),
    [{lists:flatten(io_lib:format("~p", [Why])),
      fun() ->
              {ok, Opts} = sockpool_option:tls(#{password => Fun}),
              ?assertEqual({error, {tls, {password, Why}}},
                           sockpool_tls:configure(Pool, Opts, 1, patience(Why)))
      end}
     || {Why, Fun} <- [{raised, fun() -> error({secret, "hunter2"}) end},
                       {raised, fun() -> throw("hunter2") end},
                       {raised, fun() -> exit("hunter2") end},
                       {raised, fun() -> exit(self(), kill) end},
                       {raised, {erlang, error, ["hunter2"]}},
                       {raised, {no_such_module, password, ["hunter2"]}},
                       {not_iodata, {erlang, list_to_atom, ["hunter2"]}},
                       {not_iodata, fun() -> os:getenv("SOCKPOOL_NO_SUCH_VARIABLE") end},
                       {not_iodata, fun() -> {ok, "hunter2"} end},
                       {not_iodata, fun() -> [1000] end},
                       {timeout, fun() -> timer:sleep(infinity) end}]].

%% Only one of them is waited for to the end.
patience(timeout) -> 100;
patience(_Why) -> 30000.

%% Not even with a limit of 0 where there is no fun.
no_password_in_time_test() ->
    Pool = sockpool_nif:pool_new(no_password_test, 1),
    {ok, Opts} = sockpool_option:tls(#{}),
    ?assertEqual(ok, sockpool_tls:configure(Pool, Opts, 1, 0)).

password_in_time_test_() ->
    Pool = sockpool_nif:pool_new(password_time_test, 1),
    [fun() ->
             {ok, Opts} = sockpool_option:tls(#{password => Password}),
             ?assertEqual(ok, sockpool_tls:configure(Pool, Opts, 1, 5000))
     end || Password <- [fun() -> "" end, {lists, append, [["a", "b"]]}]].

options_that_exclude_each_other_test_() ->
    [?_assertEqual({error, {bad_option, {tls, certfile}, undefined}},
                   sockpool_option:tls(#{keyfile => "k.pem"})),
     ?_assertEqual({error, {bad_option, {tls, cacerts}, [<<1>>]}},
                   sockpool_option:tls(#{cacerts => [<<1>>], cacertfile => "ca.pem"})),
     ?_assertMatch({ok, #{keyfile := <<"k">>}},
                   sockpool_option:tls(#{certfile => "c", keyfile => "k"}))].

unknown_option_test() ->
    Bad = {bad_option, {tls, verifi}, not_shown},
    ?assertEqual({error, Bad}, sockpool_option:tls(#{verifi => peer})),
    ?assertNotEqual(nomatch, string:find(sockpool_opts:format_error(Bad), "session_reuse")).

no_options_at_all_test_() ->
    [?_assertEqual({error, {bad_option, tls, not_a_list_of_options}}, sockpool_option:tls(Opts))
     || Opts <- [1, "x", [a], [{verify, none} | x], [{a, b, c}], undefined]].

%% A password in clear is not repeated either where the options around it are wrong.
password_beside_other_faults_test_() ->
    Opts = #{host => "localhost", port => 1, transport => tls},
    [?_assertEqual({error, {bad_option, tls, not_a_list_of_options}},
                   sockpool_opts:parse(p, Opts#{tls => Tls}))
     || Tls <- [[{password, "hunter2"}, verify], [{password, "hunter2"} | verify], "hunter2",
                {password, "hunter2"}]]
        ++ [?_assertEqual({error, {bad_option, Key, Shown}},
                          sockpool_opts:parse(p, Opts#{transport => tcp, tls => Tls}))
            || {Key, Shown, Tls} <-
                   [{{tls, password}, not_a_fun, #{password => "hunter2"}},
                    {tls, not_a_list_of_options, [{password, "hunter2"}, verify]}]].

%% A supervisor logs what it cannot start, with its options.
child_specification_has_no_password_test_() ->
    Opts = #{host => "localhost", port => 1, transport => tls},
    [{lists:flatten(io_lib:format("~0tp", [Tls])), fun() -> sealed(Opts#{tls => Tls}) end}
     || Tls <- [#{password => "hunter2"}, [{password, "hunter2"}], [{password, "hunter2"}, verify],
                [{password, "hunter2"} | x], "hunter2", {password, "hunter2"}]].

sealed(Opts) ->
    #{start := {sockpool, start_link, [p, Sealed]} = Start} = sockpool:child_spec(p, Opts),
    ?assertEqual(nomatch, string:find(io_lib:format("~p ~w", [Start, Start]), "hunter2")),
    ?assertEqual(sockpool_opts:parse(p, Opts), sockpool_opts:parse(p, Sealed)).

child_specification_has_what_is_right_test_() ->
    Opts = #{host => "localhost", port => 1, transport => tls},
    [fun() ->
             #{start := {sockpool, start_link, [p, Sealed]}} = sockpool:child_spec(p, Opts#{tls => Tls}),
             ?assertEqual(sockpool_opts:parse(p, Opts#{tls => Tls}), sockpool_opts:parse(p, Sealed))
     end || Tls <- [undefined, #{}, [], #{password => undefined}, [{verify, none}, {verify, peer}],
                #{password => fun() -> "x" end, certfile => "c"}]].

reasons_in_words_test_() ->
    [?_assertEqual(Words, lists:flatten(sockpool:format_error(Reason)))
     || {Reason, Words} <-
            [{{tls, {cacertfile, enoent}}, "tls option cacertfile cannot be used: there is no such file (enoent)"},
             {{tls, {password, timeout}},
              "tls option password cannot be used: its function took longer than connect_timeout (timeout)"},
             {{tls, {alert, access_denied}}, "TLS: the server refuses: access_denied"},
             {{unavailable, {tls, unknown_ca}},
              "connecting fails: TLS: no trusted authority has signed the server's certificate (unknown_ca)"},
             {{unavailable, econnrefused}, "connecting fails: connection refused (econnrefused)"}]].
