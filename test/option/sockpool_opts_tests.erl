-module(sockpool_opts_tests).

-include_lib("eunit/include/eunit.hrl").

%% For sockpool_node_config_SUITE.
-export([table/0, paths/0, wrong_paths/0, hosts_with_users/0]).

-define(MAX_MS, 4294967295).

%% Per option: {Key, [{Given, Normalised}], [Wrong], words that its message must have}.
table() ->
    Init = fun(_Conn) -> ok end,
    [{name, same([cache]), [other, "cache", undefined, 1], "an atom"},
     {transport, same([tcp]), [udp, "tcp", undefined], "tcp, tls, unix, node"},
     {host, hosts(), wrong_hosts(), "host name"},
     {port, same([1, 80, 65535]), [undefined, 0, 65536, -1, 80.0, "80", http],
      "from 1 to 65535"},
     {size, same([0, 1, 999990]), [-1, 1000001, 1.0, "10", infinity, undefined],
      "from 0 to 1000000"},
     {max_overflow, same([0, 1, 999990]), [-1, 1000001, 1.0, infinity], "from 0 to 1000000"},
     {overflow_ttl, same([0, 1, ?MAX_MS, infinity]), [-1, ?MAX_MS + 1, 1.5, never],
      "milliseconds"},
     {min_size, same([0, 1, 10, undefined]), [-1, 11, 1000001, 1.0, infinity], "from 0 to 1000000 (not above size"},
     {idle_timeout, same([1, ?MAX_MS, infinity]), [0, -1, ?MAX_MS + 1, never, undefined], "milliseconds"},
     {max_lifetime, same([1, ?MAX_MS, infinity, {1, 1}, {1, ?MAX_MS}]),
      [0, -1, ?MAX_MS + 1, never, undefined, {0, 1}, {2, 1}, {1, infinity}, {1, 2, 3}, [1, 2]], "MinMs"},
     {max_uses, same([1, 4294967295, infinity]), [0, -1, 4294967296, 1.0, undefined], "infinity"},
     {strategy, same([lifo, fifo]), [random, "lifo", 1], "lifo, fifo"},
     {max_waiting, same([0, 7, 4294967295, infinity]), [-1, 4294967296, 0.0, none],
      "infinity"},
     {checkout_timeout, same([0, 1, ?MAX_MS, infinity]), [-1, ?MAX_MS + 1, soon],
      "milliseconds"},
     {connect_timeout, same([1, ?MAX_MS]), [0, -1, ?MAX_MS + 1, infinity], "from 1 to"},
     {connect_parallelism, same([1, 64, 1000000, undefined]), [0, -1, 1000001, 1.0, infinity], "from 1 to 1000000"},
     {start, same([async, {await, 1, 0}, {await, size, ?MAX_MS}]),
      [await, {await, 0, 1}, {await, 1}, {await, 1, infinity}, {await, 1000001, 1}, sync], "{await, Count, Ms}"},
     {min_idle, same([0, 1, 1000000]), [-1, 1000001, 1.0, infinity, undefined], "from 0 to 1000000"},
     {growth, same([expected, eager]), [lazy, "eager", undefined], "expected, eager"},
     {worker, same([undefined]), [m, {m}, {"m", []}, fun(_) -> ok end, {m, f, a}], "start_link"},
     {worker_shutdown, same([undefined]), [1, infinity, -1, kill], "only with transport worker"},
     {abandoned, same([undefined]), [close, reuse, keep], "only with transport worker"},
     {send_timeout, same([0, 1, ?MAX_MS, infinity]), [-1, ?MAX_MS + 1, undefined],
      "milliseconds"},
     {pipeline, same([1, 2, 4096]), [0, -1, 4097, 1.0, infinity, undefined], "from 1 to 4096"},
     {pipeline_bytes, same([1, 1048576, 2147483647]), [0, -1, 2147483648, infinity, undefined], "bytes"},
     {pipeline_stall, same([1, 5000, ?MAX_MS, infinity]), [0, -1, ?MAX_MS + 1, undefined], "milliseconds"},
     {packet, packets(), wrong_packets(), "raw, 0, 1, 2, 4, line, resp"},
     {nodelay, same([true, false]), [1, yes, undefined], "true, false"},
     {keepalive, [{[], #{}}, {[{idle, 1}, {idle, 9}, {count, nil}], #{idle => 1}}
                  | same([true, false, #{}, #{idle => 1, interval => 1, count => 1}, #{idle => 32767, interval => 32767, count => 127}])],
      [0, no, "false", undefined, #{idle => 0}, #{idle => 32768}, #{interval => 0}, #{interval => 32768}, #{count => 0}, #{count => 128},
       #{count => 1.0}, #{idle => undefined}, #{idel => 1}, [idle], [{idle, 1} | x]], "true, false, or a map"},
     {user_timeout, same([1, 2147483647, undefined]), [0, -1, 2147483648, 1.0, infinity], "on Linux only"},
     {sndbuf, same([1, 65536, undefined]), [0, -1, 2147483648, "64k"], "bytes"},
     {recbuf, same([1, 65536, undefined]), [0, -1, 2147483648, 1.0], "bytes"},
     {bind, same([{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}, undefined]),
      ["127.0.0.1", {1, 2, 3}, {256, 0, 0, 1}, any], "IP address"},
     {init, same([Init, undefined]), [fun() -> ok end, {m, f}, ok], "one argument"},
     {validate, same([always, never, {'after', 0}, {'after', ?MAX_MS}]),
      [true, {'after', -1}, {'after', infinity}, {before, 1}],
      "always, never"},
     {health, healths(), [true, 1], "expect may be {prefix, Binary}"},
     {max_hold, same([1, ?MAX_MS, infinity]), [0, -1, ?MAX_MS + 1], "milliseconds"},
     {leak_threshold, same([1000, ?MAX_MS, infinity]), [0, 999, ?MAX_MS + 1], "1000"},
     {slow_checkout, same([1, ?MAX_MS, infinity]), [0, -1, ?MAX_MS + 1], "milliseconds"},
     {recv_limit, same([1, 67108864, 2147483647]), [0, -1, 2147483648, infinity, undefined],
      "bytes"},
     {replies, same([true, false]), [1, yes, undefined], "true, false"},
     {fail_fast, same([true, false]), [1, yes, undefined], "true, false"},
     {backoff, same([{1, 1}, {100, 10000}, {1, ?MAX_MS}]),
      [{0, 10}, {10, 9}, {1, ?MAX_MS + 1}, {1, 2, 3}, 100, {1.0, 2}, [1, 2]], "MinMs"},
     {tls, same([undefined]), [#{}, [], 1, "x", [a], [{verify, none} | x]], "TLS options"},
     {node, same([undefined]), wrong_nodes(), "name@host"},
     {max_inflight, same([undefined]), [0, -1, 4294967296, 1.0, infinity], "only with transport node"}].

healths() ->
    Check = fun(_Conn) -> ok end,
    Whole = #{interval => 30000, timeout => 1000, send => undefined, expect => undefined, check => undefined},
    Ask = #{send => <<"a">>, expect => <<"b">>},
    [{Check, Whole#{check := Check}}, {#{check => Check, interval => 100, timeout => 1}, Whole#{check := Check, interval := 100, timeout := 1}},
     {Ask, maps:merge(Whole, Ask)}, {maps:to_list(Ask#{interval => nil}), maps:merge(Whole, Ask)},
     {Ask#{expect := {prefix, <<"b">>}, interval => ?MAX_MS}, maps:merge(Whole, Ask#{expect := {prefix, <<"b">>}, interval => ?MAX_MS})},
     {undefined, undefined}].

packets() ->
    Whole = #{offset => 0, bytes => 4, endian => big, adjust => 0, header => keep},
    [{0, raw}, {{delimiter, <<"\n">>}, line}, {{length, [{header, strip}]}, 4}, {{length, #{bytes => 1, header => strip}}, 1},
     {{length, []}, {length, Whole}}, {{length, #{}}, {length, Whole}}, {{length, [{bytes, 2}, {bytes, 9}]}, {length, Whole#{bytes := 2}}},
     {{length, #{bytes => nil, endian => nil}}, {length, Whole}}, {{length, [{bytes, nil}, {bytes, 2}]}, {length, Whole}},
     {{length, #{bytes => 3, header => strip}}, {length, Whole#{bytes := 3, header := strip}}}
    | same([raw, 1, 2, 4, line, resp, {fixed, 1}, {fixed, 2147483647}, {delimiter, <<0>>}, {delimiter, <<255>>},
            {delimiter, <<"\r\n.\r\n">>}, {delimiter, binary:copy(<<"\n">>, 32)},
            {length, #{offset => 255, bytes => 8, endian => little, adjust => -2147483647, header => keep}},
            {length, Whole#{adjust := 2147483647}}, {length, Whole#{bytes := 1, header := strip, adjust := -1}}])].

wrong_packets() ->
    [3, 5, 8, -1, http, "raw", <<"raw">>, 1.0, undefined, {}, {raw}, {resp, 1}, {line, <<"\n">>}, {fixed, 0}, {fixed, -1}, {fixed, 1.0},
     {fixed, 2147483648}, {fixed, 18446744073709551616}, {fixed, nil}, {delimiter, <<>>}, {delimiter, "\r\n"}, {delimiter, [<<"a">>]},
     {delimiter, <<1:1>>}, {delimiter, binary:copy(<<"x">>, 33)}, {length}, {length, 4}, {length, #{}, 1}, {length, "abc"},
     {length, [bytes]}, {length, [{bytes, 1} | x]}, {length, [{bytes, 1, 2}]}, {length, {bytes, 1}}]
        ++ [{length, #{Key => Value}}
            || {Key, Values} <- [{offset, [-1, 256, 1.0, big, undefined]}, {bytes, [0, 9, -1, "4"]}, {endian, [native, "big", 1]},
                                 {adjust, [2147483648, -2147483648, 1.0]}, {header, [drop, true, undefined]}, {size, [4, nil]}, {4, [4]}],
               Value <- Values]
        ++ [{length, #{offset => 1, header => strip}}, {length, [{size, 1}, {bytes, 1}]}].

wrong_nodes() ->
    ['b@host', b, '@host', 'b@', 'b@h@h', 'b c@host', "b@host", <<"b@host">>, 1].

hosts() ->
    [{{10, 0, 0, 1}, [{10, 0, 0, 1}]},
     {{0, 0, 0, 0, 0, 0, 0, 1}, [{0, 0, 0, 0, 0, 0, 0, 1}]},
     {"127.0.0.1", [{127, 0, 0, 1}]},
     {<<"127.0.0.1">>, [{127, 0, 0, 1}]},
     {'127.0.0.1', [{127, 0, 0, 1}]},
     {"::1", [{0, 0, 0, 0, 0, 0, 0, 1}]},
     {"db.example", ["db.example"]},
     {<<"db.example">>, ["db.example"]},
     {localhost, ["localhost"]},
     {"127.1", ["127.1"]},
     {["db.example"], ["db.example"]},
     {["b.example", <<"10.0.0.2">>, localhost, {10, 0, 0, 3}],
      ["b.example", {10, 0, 0, 2}, "localhost", {10, 0, 0, 3}]},
     {lists:duplicate(255, $a), [lists:duplicate(255, $a)]}].

wrong_hosts() ->
    [undefined, "", <<>>, [], '', 127, 1.0, {127, 0, 0}, {1, 2, 3, 256}, #{},
     "db example", "db\n", [100, 0], <<"db", 0>>, "dömäne",
     [undefined], ["a", ""], ["a", 1], [["a"]], ["a" | b], [$a | b], [$a, "b"],
     "127.0.0.1:7000", <<"db.example:7000">>, 'db.example:7000', "http://db.example", "db.example/x",
     "[::1]", "[::1]:7000", "::1::2", "fe80::1%eth0", <<"fe80::1%1">>, ["a", "a:1"]].

%% Those of which not all is shown.
hosts_with_users() ->
    [{"me@db.example", <<"not_shown@db.example">>},
     {<<"redis://me:hunter2@cache:6379/0">>, <<"redis://not_shown@cache:6379/0">>},
     {'http://hunter2@h', <<"http://not_shown@h">>},
     {"http://me:hun@ter://2@h?q=x", <<"http://not_shown@h?q=x">>},
     {"hunter2@h://", <<"not_shown@h://">>},
     {["a", "b:1", "ä:hunter2@c", "d@e"], <<"not_shown@c">>},
     {["hunter2@a" | b], <<"not_shown@a">>},
     {lists:duplicate(256, $a), not_shown},
     {["a", <<"hunter2@", 0:250/unit:8>>], not_shown}].

what_may_be_a_password_in_a_host_is_not_shown_test_() ->
    [{lists:flatten(io_lib:format("~0tp", [Host])),
      [?_assertEqual({error, {bad_option, host, Shown}}, parse_tcp(#{host => Host})),
       ?_assertEqual({error, {bad_option, host, Shown}},
                     sockpool_opts:parse(cache, #{transport => unix, path => "/s", host => Host})),
       ?_assertEqual(#{host => Shown}, sockpool_opts:seal(#{host => Host})),
       ?_assertEqual(match, re:run(sockpool_opts:format_error({bad_option, host, Shown}),
                                         "(not_shown).* is not allowed; it must be", [{capture, none}, unicode]))]}
     || {Host, Shown} <- hosts_with_users()].

paths() ->
    [{"/tmp/s", <<"/tmp/s">>},
     {<<"/tmp/s">>, <<"/tmp/s">>},
     {"s", <<"s">>},
     {"/tmp/ä", <<"/tmp/ä"/utf8>>},
     {<<255>>, <<255>>},
     {lists:duplicate(107, $p), binary:copy(<<"p">>, 107)}].

wrong_paths() ->
    [undefined, "", <<>>, [], tmp, 1, "a\0b", <<0, "abstract">>, <<"a", 0>>, [$a | b], [-1],
     [16#D800], ["/tmp/", "s"], [<<"/tmp/s">>], lists:duplicate(108, $p), binary:copy(<<"p">>, 108), lists:duplicate(54, $ä)].

same(Values) ->
    [{Value, Value} || Value <- Values].

parse_tcp(Opts) ->
    sockpool_opts:parse(cache, maps:merge(#{host => "127.0.0.1", port => 80}, Opts)).

parse_unix(Opts) ->
    sockpool_opts:parse(cache, maps:merge(#{transport => unix, path => "/tmp/s"}, Opts)).

right_values_test_() ->
    [{lists:flatten(io_lib:format("~p => ~0tp", [Key, Given])), fun() ->
          {ok, Opts} = parse_tcp(#{Key => Given}),
          ?assertEqual(Normalised, maps:get(Key, Opts))
      end}
     || {Key, Right, _Wrong, _Words} <- table(), {Given, Normalised} <- Right].

wrong_values_test_() ->
    [{lists:flatten(io_lib:format("~p => ~0tp", [Key, Value])),
      ?_assertEqual({error, {bad_option, Key, shown(Key, Value)}}, parse_tcp(#{Key => Value}))}
     || {Key, _Right, Wrong, _Words} <- table(), Value <- Wrong].

%% What may have a password in it is not repeated.
shown(worker, _Value) -> not_a_start_function;
shown(tls, []) -> #{};
shown(tls, Value) when Value =/= #{} -> not_a_list_of_options;
shown(_Key, Value) -> Value.

right_paths_test_() ->
    [fun() ->
         {ok, Opts} = parse_unix(#{path => Given}),
         ?assertEqual(Normalised, maps:get(path, Opts))
     end || {Given, Normalised} <- paths()].

wrong_paths_test_() ->
    [?_assertEqual({error, {bad_option, path, Path}}, parse_unix(#{path => Path}))
     || Path <- wrong_paths()].

tcp_defaults_test() ->
    ?assertEqual({ok, (defaults())#{host => [{127, 0, 0, 1}], port => 80}}, parse_tcp(#{})).

unix_defaults_test() ->
    ?assertEqual({ok, (defaults())#{transport => unix, path => <<"/tmp/s">>}},
                 parse_unix(#{})).

defaults() ->
    #{name => cache, transport => tcp, host => undefined, port => undefined,
      path => undefined, worker => undefined, worker_shutdown => undefined, abandoned => undefined, size => 10, max_overflow => 10, overflow_ttl => 10000,
      min_size => undefined, idle_timeout => infinity, max_lifetime => infinity, max_uses => infinity, strategy => lifo, max_waiting => infinity, checkout_timeout => 5000,
      connect_timeout => 5000, connect_parallelism => undefined, growth => expected, min_idle => 0, start => async, send_timeout => 5000, pipeline => 1, pipeline_bytes => 1048576,
      pipeline_stall => 5000, replies => true, packet => raw, nodelay => true,
      keepalive => false, user_timeout => undefined, health => undefined, sndbuf => undefined, recbuf => undefined, bind => undefined,
      init => undefined, validate => always, max_hold => infinity, leak_threshold => infinity, slow_checkout => 1000,
      recv_limit => 67108864, backoff => {100, 2000}, fail_fast => false, tls => undefined,
      node => undefined, cookie => undefined, max_inflight => undefined}.

every_option_is_tested_test() ->
    Tested = [path, cookie | [Key || {Key, _Right, _Wrong, _Words} <- table()]],
    {ok, Opts} = parse_tcp(#{}),
    ?assertEqual(lists:sort(maps:keys(Opts)), lists:sort(Tested)).

parse_worker(Opts) ->
    sockpool_opts:parse(cache, maps:merge(#{transport => worker, worker => {m, arg}}, Opts)).

worker_defaults_test() ->
    {ok, #{worker := {m, start_link, Arg}} = Parsed} = parse_worker(#{}),
    ?assertEqual([arg], Arg()),
    Unused = maps:from_list([{Key, undefined} || Key <- [send_timeout, replies, packet, nodelay, keepalive, recv_limit, pipeline,
                                                            pipeline_bytes, pipeline_stall]]),
    ?assertEqual(maps:merge(defaults(), Unused#{transport => worker, worker_shutdown => 5000, abandoned => close}),
                 Parsed#{worker := undefined}).

workers_test_() ->
    Start = fun() -> {ok, self()} end,
    [?_assertMatch({ok, #{worker := Start}}, parse_worker(#{worker => Start})),
     ?_assertMatch({ok, #{worker := {m, f, _}}}, parse_worker(#{worker => {m, f, [a, b]}})),
     ?_assertMatch({ok, #{worker_shutdown := infinity, abandoned := reuse}},
                   parse_worker(#{worker_shutdown => infinity, abandoned => reuse})),
     ?_assertMatch({ok, #{validate := {m, f, _}}}, parse_worker(#{validate => {m, f, []}}))]
        ++ [?_assertEqual({error, {bad_option, Key, Value}}, parse_worker(#{Key => Value}))
            || {Key, Value} <- [{worker, undefined}, {host, "localhost"}, {port, 1}, {path, "/s"}, {packet, raw},
                                {nodelay, true}, {keepalive, false}, {user_timeout, 1}, {sndbuf, 1}, {recbuf, 1}, {recv_limit, 1},
                                {send_timeout, 1}, {pipeline, 2}, {replies, false}, {bind, {127, 0, 0, 1}}, {max_inflight, 1}, {worker_shutdown, -1},
                                {abandoned, keep}, {validate, never}, {validate, {'after', 1}}]].

user_timeout_is_linuxs_test_() ->
    [?_assertEqual(Has, sockpool_opts:has_user_timeout(Os))
     || {Os, Has} <- [{{unix, linux}, true}, {{unix, darwin}, false}, {{unix, freebsd}, false}, {{win32, nt}, false}]].

%% A function only, of a worker; nothing of a node, which is asked all the time.
health_by_transport_test_() ->
    Ask = #{send => <<"a">>, expect => <<"b">>},
    [?_assertMatch({error, {bad_option, health, #{check := undefined}}}, parse_worker(#{health => Ask})),
     ?_assertMatch({ok, #{health := #{check := {m, f, _}}}}, parse_worker(#{health => {m, f, [secret]}})),
     ?_assertMatch({error, {bad_option, health, _}}, sockpool_opts:parse(cache, #{transport => node, node => a@b, health => Ask}))].

%% Both may have a password in them.
health_is_not_shown_test_() ->
    Wrong = #{send => <<"AUTH hunter2">>, expect => <<"+OK">>, interval => 1},
    [?_assertEqual({error, {bad_option, health, not_a_check}}, parse_tcp(#{health => Other}))
     || Other <- [Wrong, #{}, [], fun() -> ok end, fun(_, _) -> ok end, {m, f}, {prefix, <<"x">>}, "x"]]
        ++ [?_assertEqual(nomatch, string:find(io_lib:format("~p", [sockpool_opts:seal(#{health => Wrong#{interval := 100}})]), "hunter2"))].

a_sealed_check_parses_again_test() ->
    Given = #{host => "h", port => 1, health => #{send => <<"AUTH hunter2">>, expect => {prefix, <<"+OK">>}}},
    {ok, Parsed} = sockpool_opts:parse(p, Given),
    ?assertEqual({ok, Parsed}, sockpool_opts:parse(p, sockpool_opts:seal(Given))).

each_connection_of_a_pipeline_may_be_a_pipe_test() ->
    ?assertMatch({ok, #{pipeline := 2}}, parse_tcp(#{size => 65536, max_overflow => 0, pipeline => 2})),
    ?assertEqual({error, {bad_option, pipeline, 2}}, parse_tcp(#{size => 65536, max_overflow => 1, pipeline => 2})),
    ?assertMatch({ok, #{pipeline := 1}}, parse_tcp(#{size => 65536, max_overflow => 1, pipeline => 1})).

%% Not that there is no host.
worker_without_its_transport_test() ->
    {error, {bad_option, worker, {m, start_link, _}} = Bad} = sockpool_opts:parse(cache, #{worker => {m, hunter2}}),
    ?assertMatch({match, _}, re:run(sockpool_opts:format_error(Bad), "not allowed here.*required with transport worker")).

%% What is wrong may have a password in it.
wrong_workers_are_not_shown_test_() ->
    [?_assertEqual({error, {bad_option, worker, not_a_start_function}}, parse_worker(#{worker => Wrong}))
     || Wrong <- [m, {"m", secret}, {m, f, secret}, fun(_) -> ok end]].

%% Only workers are looked at by a function; always is said in any case.
functions_that_validate_test_() ->
    Fit = fun(_) -> true end,
    [?_assertMatch({ok, #{validate := Fit}}, parse_worker(#{validate => Fit})),
     ?_assertEqual({error, {bad_option, validate, Fit}}, parse_tcp(#{validate => Fit})),
     ?_assertMatch({error, {bad_option, validate, {m, f, _}}}, parse_tcp(#{validate => {m, f, []}})),
     ?_assertEqual({error, {bad_option, validate, not_a_fun}}, parse_worker(#{validate => {m, f, secret}}))].

a_sealed_worker_parses_again_test() ->
    Sealed = sockpool_opts:seal(#{transport => worker, worker => {m, hunter2}, validate => {m, f, [hunter2]}}),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Sealed]), "hunter2")),
    ?assertMatch({ok, #{worker := {m, start_link, _}, validate := {m, f, _}}}, sockpool_opts:parse(cache, Sealed)).

how_long_a_stop_takes_test_() ->
    [?_assertEqual(Expected, sockpool_opts:stop_ms(Opts))
     || {Opts, Expected} <- [{#{transport => worker}, 10000}, {#{transport => worker, worker_shutdown => 1}, 5001},
                             {#{transport => worker, worker_shutdown => infinity}, infinity},
                             {#{transport => worker, worker_shutdown => wrong}, 5000},
                             {#{host => "h"}, 5000}, {not_a_map, 5000}]].

%% What parse returns, where it was given, is accepted again and means the same.
normalised_options_parse_again_test() ->
    {ok, Tcp} = parse_tcp(#{packet => 0, host => ["a", <<"127.0.0.1">>]}),
    ?assertEqual({ok, Tcp}, sockpool_opts:parse(cache, Tcp)),
    {ok, Unix} = parse_unix(#{}),
    ?assertEqual({ok, Unix}, sockpool_opts:parse(cache, Unix)),
    {ok, Workers} = parse_worker(#{}),
    ?assertEqual({ok, Workers}, sockpool_opts:parse(cache, Workers)).

unknown_option_test_() ->
    [?_assertEqual({error, {bad_option, Key, not_shown}}, parse_tcp(#{Key => 1}))
     || Key <- [sise, "size", <<"size">>, {size}, 1, undefined]].

wrong_name_test_() ->
    [?_assertEqual({error, {bad_option, name, Name}}, sockpool_opts:parse(Name, #{}))
     || Name <- [undefined, "cache", <<"cache">>, 1, {cache, node()}]].

opts_that_are_none_test_() ->
    [?_assertEqual({error, {bad_option, opts, not_a_map}}, sockpool_opts:parse(cache, Opts))
     || Opts <- [[port], [{port, 80} | x], [{port, 80, 1}], "port", undefined, nil, 1]].

%%% In which shapes options are given.

%% As keyword lists of Elixir are.
options_as_a_list_test_() ->
    [{lists:flatten(io_lib:format("~p => ~0tp", [Key, Given])), fun() ->
          Opts = maps:merge(#{host => "127.0.0.1", port => 80}, #{Key => Given}),
          ?assertEqual(sockpool_opts:parse(cache, Opts), sockpool_opts:parse(cache, maps:to_list(Opts)))
      end}
     || {Key, Right, Wrong, _Words} <- table(), Given <- [Value || {Value, _} <- Right] ++ Wrong].

first_of_the_same_key_counts_test() ->
    Tcp = [{host, "127.0.0.1"}, {port, 80}],
    ?assertMatch({ok, #{size := 1, max_hold := infinity}},
                 sockpool_opts:parse(cache, [{size, 1}, {max_hold, nil} | Tcp] ++ [{size, 2}, {max_hold, 5}])).

nil_is_not_given_test_() ->
    {ok, Tcp} = parse_tcp(#{}),
    [{atom_to_list(Key), fun() -> ?assertEqual({ok, Tcp}, parse_tcp(#{Key => nil})) end}
     || Key <- maps:keys(Tcp), Key =/= host, Key =/= port]
        ++ [?_assertEqual({error, {bad_option, Key, undefined}}, parse_tcp(#{Key => nil})) || Key <- [host, port]]
        ++ [?_assertEqual({error, {bad_option, sise, not_shown}}, parse_tcp(#{sise => nil}))].

nil_in_tls_is_not_given_test_() ->
    {ok, Defaults} = sockpool_option:tls(#{}),
    [?_assertMatch({ok, #{tls := Defaults}}, parse_tcp(#{transport => tls, tls => Tls}))
     || Key <- maps:keys(Defaults), Tls <- [#{Key => nil}, [{Key, nil}]]].

%% To another node goes a map of what is given.
given_for_another_node_test() ->
    ?assertEqual({ok, #{size => 1, tls => #{verify => none}, sise => nil}},
                 sockpool_opts:given([{size, 1}, {host, nil}, {sise, nil}, {tls, [{verify, none}, {ktls, nil}]}])),
    ?assertEqual({ok, #{tls => 1}}, sockpool_opts:given(#{tls => 1})),
    ?assertEqual({error, {bad_option, opts, not_a_map}}, sockpool_opts:given([a])).

%% Functions with extra arguments, which may be secrets: they are kept, and not shown.
module_function_and_arguments_test_() ->
    Login = {m, login, ["hunter2"]},
    Tls = #{host => "h", port => 1, transport => tls},
    {ok, #{init := {m, login, Extra}} = Opts} = parse_tcp(#{init => Login}),
    {ok, #{tls := #{password := {m, login, Password}}} = Secured} =
        sockpool_opts:parse(cache, Tls#{tls => [{password, Login}]}),
    {ok, #{cookie := {m, login, Cookie}} = Node} = parse_node(#{cookie => Login}),
    Shown = [Opts, Secured, Node, sockpool:child_spec(cache, #{init => Login, cookie => Login, tls => #{password => Login}}),
             parse_node(#{init => Login}), parse_tcp(#{init => {m, login, ["hunter2" | x]}}),
             parse_tcp(#{init => {"m", login, ["hunter2"]}}), parse_tcp(#{cookie => Login}),
             parse_tcp(#{tls => #{password => {"m", login, ["hunter2"]}}}), parse_tcp(#{tls => #{password => Login}})],
    [?_assertEqual([["hunter2"], ["hunter2"], ["hunter2"]], [Extra(), Password(), Cookie()]),
     ?_assertEqual({ok, Opts}, sockpool_opts:parse(cache, Opts)),
     ?_assertEqual(["hunter2", 1], sockpool_callback:call({erlang, '++', sockpool_secret:seal([[1]])}, [["hunter2"]])),
     ?_assertEqual({error, {bad_option, init, not_a_fun}}, parse_tcp(#{init => {m, login, x}}))]
        ++ [?_assertEqual(nomatch, string:find(io_lib:format("~p", [What]), "hunter2")) || What <- Shown].

options_of_a_daemon_test_() ->
    Pool = #{host => "h", port => 1},
    {ok, Parsed} = sockpool_node_opts:parse(#{name => 'a@b', pools => #{p => Pool}}),
    [?_assertEqual({ok, Parsed}, sockpool_node_opts:parse(Opts))
     || Opts <- [[{name, 'a@b'}, {pools, [{p, maps:to_list(Pool)}]}],
                 #{name => 'a@b', pools => [{p, [{host, "h"}, {port, 1}, {size, nil}]}], listen => nil}]]
        ++ [?_assertEqual(sockpool_node:child_spec(#{name => 'a@b', stop_timeout => 7}),
                          sockpool_node:child_spec([{name, 'a@b'}, {stop_timeout, 7}]))].

missing_option_test_() ->
    [{Missing, ?_assertEqual({error, {bad_option, Key, undefined}},
                             sockpool_opts:parse(cache, Opts))}
     || {Missing, Key, Opts} <-
            [{"host", host, #{port => 80}},
             {"port", port, #{host => "localhost"}},
             {"host", host, #{transport => tls, port => 80}},
             {"port", port, #{transport => tls, host => "localhost"}},
             {"path", path, #{transport => unix}}]].

option_of_the_other_transport_test_() ->
    [?_assertEqual({error, {bad_option, host, "localhost"}}, parse_unix(#{host => "localhost"})),
     ?_assertEqual({error, {bad_option, port, 80}}, parse_unix(#{port => 80})),
     ?_assertEqual({error, {bad_option, bind, {127, 0, 0, 1}}},
                   parse_unix(#{bind => {127, 0, 0, 1}})),
     ?_assertEqual({error, {bad_option, tls, #{}}}, parse_unix(#{tls => #{}})),
     ?_assertEqual({error, {bad_option, path, "/tmp/s"}},
                   parse_tcp(#{transport => tls, path => "/tmp/s"})),
     ?_assertEqual({error, {bad_option, path, "/tmp/s"}}, parse_tcp(#{path => "/tmp/s"}))].

%% The options in the map tls: sockpool_tls_tests.
tls_options_are_completed_test() ->
    {ok, Defaults} = sockpool_option:tls(#{}),
    {ok, Opts} = parse_tcp(#{transport => tls}),
    ?assertEqual(Defaults, maps:get(tls, Opts)),
    {ok, #{tls := Given}} = parse_tcp(#{transport => tls, tls => [{verify, none}]}),
    ?assertEqual(Defaults#{verify := none}, Given),
    ?assertEqual({error, {bad_option, {tls, verify}, off}},
                 parse_tcp(#{transport => tls, tls => #{verify => off}})),
    ?assertEqual({ok, Opts}, sockpool_opts:parse(cache, Opts)).

%%% Of transport => node.

parse_node(Opts) ->
    sockpool_opts:parse(cache, maps:merge(#{transport => node, node => 'b@host'}, Opts)).

node_defaults_test() ->
    ?assertEqual({ok, (defaults())#{transport => node, node => 'b@host', packet => 4, max_inflight => 64,
                                     pipeline => undefined, pipeline_bytes => undefined, pipeline_stall => undefined,
                                     replies => undefined}},
                 parse_node(#{})).

node_options_test() ->
    ?assertMatch({ok, #{port := 9100, max_inflight := 1, packet := 4, node := 'b@10.0.0.1'}},
                 parse_node(#{node => 'b@10.0.0.1', port => 9100, max_inflight => 1, packet => 4})),
    {ok, #{tls := Tls}} = parse_node(#{tls => #{verify => none}}),
    ?assertMatch(#{verify := none}, Tls),
    ?assertMatch({ok, #{bind := {127, 0, 0, 1}}}, parse_node(#{bind => {127, 0, 0, 1}})).

wrong_node_options_test_() ->
    [?_assertEqual({error, {bad_option, Key, Value}}, parse_node(#{Key => Value}))
     || {Key, Value} <- [{node, undefined}, {host, "localhost"}, {path, "/tmp/s"}, {packet, 2},
                         {packet, line}, {packet, resp}, {packet, {length, #{}}}, {packet, {fixed, 4}}, {init, fun(_) -> ok end}, {max_inflight, 0}, {port, 0}, {pipeline, 2},
                         {pipeline_bytes, 1}, {pipeline_stall, 1}]
            ++ [{node, Node} || Node <- tl(wrong_nodes())]].

%% Their cookies are kept in funs, and what is wrong is found before the daemon runs.
pools_of_nodes_in_the_daemon_test() ->
    Pool = #{transport => node, node => 'b@h'},
    Parse = fun(Opts) -> sockpool_node_opts:parse(#{name => 'a@b', pools => #{p => Opts}}) end,
    ?assertMatch({ok, #{pools := #{p := Pool}}}, Parse(Pool)),
    {ok, #{pools := #{p := #{cookie := Cookie}}} = Parsed} = Parse(Pool#{cookie => s3cret}),
    ?assertEqual(s3cret, Cookie()),
    #{pools := #{p := #{cookie := Sealed}}} =
        sockpool_node_opts:seal(#{pools => #{p => Pool#{cookie => s3cret}}}),
    ?assertEqual(s3cret, Sealed()),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Parsed]), "s3cret")),
    ?assertEqual({error, {bad_option, {pools, p, cookie}, not_a_cookie}}, Parse(Pool#{cookie => "s3cret"})),
    ?assertMatch({error, {bad_option, {pools, p, init}, _}}, Parse(Pool#{init => fun(_) -> ok end})).

%% A cookie is nothing to be told, wherever it is wrong, and what is kept of it prints as a fun.
cookies_are_not_shown_test() ->
    Long = binary:copy(<<"s3cret">>, 43),
    [?assertEqual({error, {bad_option, cookie, not_a_cookie}}, Parsed)
     || Parsed <- [parse_node(#{cookie => Wrong})
                   || Wrong <- ["s3cret", '', <<>>, <<"s3", 0>>, Long, fun(_) -> x end, 's3cret€', 1]]
            ++ [parse_tcp(#{cookie => s3cret}), parse_unix(#{cookie => s3cret})]],
    [begin
         {ok, #{cookie := Kept}} = parse_node(#{cookie => Right}),
         ?assertEqual(Right, Kept()),
         #{start := {_, _, Args}} = sockpool:child_spec(cache, #{cookie => Right}),
         ?assertEqual(nomatch, string:find(io_lib:format("~p", [{Kept, Args}]), "s3cret"))
     end || Right <- ['s3cret', <<"s3cret">>]],
    Fun = fun() -> s3cret end,
    ?assertMatch({ok, #{cookie := Fun}}, parse_node(#{cookie => Fun})).

cookie_bytes_test() ->
    ?assertEqual({ok, <<"abc">>}, sockpool_option:cookie_bytes(abc)),
    ?assertEqual({ok, <<228>>}, sockpool_option:cookie_bytes('ä')),
    ?assertEqual({ok, <<228>>}, sockpool_option:cookie_bytes(<<228>>)),
    ?assertEqual(error, sockpool_option:cookie_bytes(undefined)).

size_and_max_overflow_together_test_() ->
    [?_assertEqual({error, {bad_option, size, 0}}, parse_tcp(#{size => 0, max_overflow => 0})),
     ?_assertEqual({error, {bad_option, size, 999991}}, parse_tcp(#{size => 999991})),
     ?_assertMatch({ok, #{size := 0}}, parse_tcp(#{size => 0, max_overflow => 1})),
     ?_assertMatch({ok, _}, parse_tcp(#{size => 1000000, max_overflow => 0}))].

message_names_option_value_and_what_is_allowed_test_() ->
    Path = {path, [], wrong_paths(), "107 bytes"},
    [{atom_to_list(Key), fun() ->
          Message = sockpool_opts:format_error({bad_option, Key, Value}),
          Said = lists:flatten(io_lib:format("~0tp", [Value])),
          [?assertNotEqual({nomatch, Part}, {string:find(Message, Part), Part})
           || Part <- [atom_to_list(Key), Said, Words]]
      end}
     || {Key, _Right, Wrong, Words} <- [Path | table()], Value <- lists:sublist(Wrong -- [undefined], 1)].

message_about_a_host_hints_at_what_was_meant_test_() ->
    Message = fun(Host) -> sockpool_opts:format_error({bad_option, host, Host}) end,
    [{lists:flatten(io_lib:format("~0tp", [Host])),
      ?_assertEqual("; did you mean " ++ Meant ++ "?", lists:nthtail(max(0, length(Message(Host)) - 16 - length(Meant)), Message(Host)))}
     || {Host, Meant} <- [{"127.0.0.1:7000", "host => \"127.0.0.1\", port => 7000"},
                          {<<"db.example:7000">>, "host => \"db.example\", port => 7000"},
                          {'localhost:1', "host => \"localhost\", port => 1"},
                          {["a", "b:2", "c:3"], "host => \"b\", port => 2"},
                          {"[::1]:80", "host => \"::1\", port => 80"},
                          {"[::1]", "host => \"::1\""},
                          {"http://localhost", "host => \"localhost\", port => 80"},
                          {"http://localhost:8080/x", "host => \"localhost\", port => 8080"},
                          {"https://[::1]/", "host => \"::1\", port => 443, transport => tls"},
                          {<<"redis://not_shown@cache:6379/0">>, "host => \"cache\", port => 6379"},
                          {"redis://cache", "host => \"cache\""}]]
        ++ [?_assertEqual(nomatch, string:find(Message(Host), "did you mean"))
            || Host <- [undefined, "", "a:b", "a:0", "a:65536", "[::1", "[::1]x", "::1::2", "fe80::1%eth0", "a/b", "http://",
                        "http://a b", lists:duplicate(300, $a) ++ ":1", [$a | b], 1, {1, 2}, "db.example"]].

message_about_options_that_are_no_map_test() ->
    Message = sockpool_opts:format_error({bad_option, opts, not_a_map}),
    ?assertNotEqual(nomatch, string:find(Message, "a map")).

message_about_an_unknown_option_lists_the_options_test() ->
    Message = sockpool_opts:format_error({bad_option, sise, not_shown}),
    Keys = [atom_to_list(Key) || Key <- maps:keys(defaults())],
    [?assertNotEqual({nomatch, Part}, {string:find(Message, Part), Part})
     || Part <- ["sise", "does not exist" | Keys]].

%% Of options with a password in them, in a place or a shape in which none is looked for.
no_password_is_repeated_test_() ->
    Secret = "hunter2",
    Tls = #{password => Secret},
    Tcp = #{host => "localhost", port => 1},
    Pool = fun(Opts) -> sockpool_opts:parse(p, Opts) end,
    Node = fun sockpool_node_opts:parse/1,
    Cases = [{Pool, maps:to_list(Tcp#{tls => Tls})}, {Pool, Tcp#{pasword => Secret}}, {Pool, Tcp#{ssl => Tls}},
             {Pool, Tcp#{transport => tls, tls => #{passwort => Secret}}},
             {Pool, Tcp#{transport => tls, tls => [{passwort, Secret}]}},
             {Node, [{cookie, Secret}]}, {Node, #{name => 'a@b', cooky => Secret}},
             {Node, #{name => 'a@b', pools => [{p, Tcp#{tls => Tls}}]}},
             {Node, #{name => 'a@b', pools => #{p => maps:to_list(Tcp#{tls => Tls})}}}],
    Shown = [sockpool_opts:seal(Opts) || {_, Opts} <- lists:sublist(Cases, 4)]
        ++ [sockpool_node_opts:seal(Opts) || {_, Opts} <- lists:nthtail(5, Cases)],
    [{Said, ?_assertEqual(nomatch, string:find(Said, Secret))}
     || Said <- [lists:flatten(io_lib:format("~p", [Parse(Opts)])) || {Parse, Opts} <- Cases]
            ++ [lists:flatten(io_lib:format("~p", [Spec])) || Spec <- Shown]].

%% A wrong value may be huge: the message stays readable.
message_about_a_huge_value_is_short_test() ->
    Message = sockpool_opts:format_error({bad_option, port, lists:seq(1000, 100000)}),
    ?assert(length(Message) < 500).

%% Not of a start: a function that is not for the pool's transport, an option that setopts does not have.
of_a_function_test_() ->
    Message = fun(Key, Value) -> lists:flatten(sockpool:format_error({bad_option, Key, Value})) end,
    [?_assertEqual("this function is not for pools with transport tcp", Message(transport, tcp)),
     ?_assertMatch("option transport: ssl is not allowed; it must be one of tcp" ++ _, Message(transport, ssl)),
     ?_assertEqual("setopts does not know active; it knows packet, nodelay, keepalive, sndbuf and recbuf",
                   Message(active, true)),
     ?_assertMatch("option hst does not exist; the options are name, transport, host" ++ _, Message(hst, not_shown)),
     ?_assertMatch({match, _}, re:run(Message(cacertfile, not_shown), "; cacertfile is one of those in the option tls$"))].

%% The supervisor's report has the term only.
start_link_says_the_sentence_test() ->
    Self = self(),
    Heard = fun(Event, _) ->
                case sockpool_test_log:line(Event) of
                    {ok, Line} -> Self ! {logged, Line}, stop;
                    none -> ignore
                end
            end,
    ok = logger:add_primary_filter(?MODULE, {Heard, none}),
    try
        ?assertEqual({error, {bad_option, prt, not_shown}}, sockpool:start_link(p, [{host, "h"}, {prt, 1}])),
        receive
            {logged, Sentence} -> ?assertMatch("sockpool pool p does not start: option prt does not exist" ++ _, Sentence)
        after 0 -> error(not_logged)
        end
    after
        ok = logger:remove_primary_filter(?MODULE)
    end.
