%%% What two readings say. The incidents themselves are in sockpool_verdict_SUITE.
-module(sockpool_verdict_tests).

-include_lib("eunit/include/eunit.hrl").

-define(BOUNDS, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000,
                 5000000, 10000000, 20000000, 50000000]).

%% {What, the first reading, what is different in the second, [{Severity, Cause}]}; readings are told by what is not 0.
table() ->
    Full = #{leased => 10, idle => 0, total => 10},
    Waits = Full#{waiting => 7, oldest_wait => 200, exhausted => 900},
    Long = Waits#{oldest_wait => 1000},
    Down = #{idle => 0, total => 0, connecting => 1},
    Refused = #{last_error => econnrefused, last_error_at => 1000},
    [{"at rest", #{}, #{}, []},
     {"busy", #{}, Full#{checkins => 1000, checkouts => 1000, use => {1000, 5000}}, []},
     {"somebody waits for a moment", #{}, Waits#{checkins => 1000, checkouts => 1000, use => {1000, 5000}, wait => {1000, 100}}, []},
     {"somebody waits, as long as for an answer", #{}, Waits#{checkins => 1000, checkouts => 1000, use => {1000, 5000}, wait => {1000, 4000}},
      [{warning, pool_too_small}]},
     {"for a second", #{}, Long#{checkins => 1000, checkouts => 1000, use => {1000, 5000}, wait => {1000, 4000}}, [{error, pool_too_small}]},
     {"few are turned away", #{}, Waits#{checkins => 1000, checkouts => 1000, errors => #{timeout => 50}, use => {1000, 5000}},
      [{error, pool_too_small}]},
     {"many are", #{}, Waits#{checkins => 1000, checkouts => 1000, errors => #{timeout => 50, full => 100}, use => {1000, 5000}},
      [{error, overload}]},
     {"who is told that the server is down is not turned away", #{}, Full#{errors => #{unavailable => 100, draining => 5}}, []},
     {"leases take as long as ever", #{use => {1000, 300000}}, Waits#{checkins => 10, checkouts => 10, use => {10, 400000}, wait => {10, 400000}},
      [{warning, pool_too_small}]},
     {"three times as long", #{use => {1000, 20000}}, Waits#{checkins => 10, checkouts => 10, use => {10, 70000}, wait => {10, 400000}},
      [{warning, slow_server}]},
     {"a hundred times of nothing", #{use => {1000, 20}}, Waits#{checkins => 10, checkouts => 10, use => {10, 5000}, wait => {10, 40000}},
      [{warning, pool_too_small}]},
     {"nothing is known of before", #{use => {10, 20}}, Waits#{checkins => 10, checkouts => 10, use => {10, 300000}, wait => {10, 400000}},
      [{warning, slow_server}]},
     {"none comes back", #{}, Long, [{error, leak}]},
     {"and their owners wait for bytes", #{}, Long#{held => [true, true, false]}, [{error, slow_server}, {warning, leak}]},
     {"held, and nobody waits", #{}, Full#{held => [false]}, [{warning, leak}]},
     {"held by who waits for bytes", #{}, Full#{held => [true]}, [{notice, long_lease}]},
     {"reported where owners are not known", #{}, Full#{leaked => 1}, [{warning, leak}]},
     {"connecting", #{}, #{idle => 0, leased => 1, total => 3, connecting => 2, waiting => 5, oldest_wait => 1500, checkins => 1, use => {1, 1000}},
      [{warning, connecting}]},
     {"connecting, faster than they are used", #{}, #{idle => 0, leased => 1, total => 3, connecting => 2, waiting => 5, oldest_wait => 1500, checkins => 1,
                                                     use => {1, 1000}, connect => {1, 100}}, [{error, pool_too_small}]},
     {"refused", #{}, maps:merge(Down, Refused#{connect_failures => 3}), [{error, host_down}]},
     {"between two attempts", #{connect_failures => 3}, maps:merge(Down, Refused#{connect_failures => 3}), [{error, host_down}]},
     {"long ago", #{connect_failures => 3}, maps:merge(Down, Refused#{connect_failures => 3, last_error_at => -70000}), []},
     {"some are up", #{}, Refused#{connect_failures => 3}, [{warning, host_down}]},
     {"owners that die, among many", #{}, #{checkins => 1000, abandoned => 5}, [{notice, dead_owners}]},
     {"among few", #{}, #{checkins => 20, abandoned => 5}, [{warning, dead_owners}]},
     {"and others wait", #{}, Long#{checkins => 20, abandoned => 5, use => {20, 1000}}, [{error, dead_owners}, {error, pool_too_small}]},
     {"held for too long is none of these", #{}, #{checkins => 1, abandoned => 5, closed_by => #{max_hold => 5}}, []},
     {"checks", #{}, #{health_failed => 1}, [{warning, health}]},
     {"closed again and again", #{}, #{checkins => 100, closed => 40, closed_by => #{discarded => 30, unread => 10}}, [{notice, churn}]},
     {"a few are closed", #{}, #{checkins => 100, closed => 9, closed_by => #{discarded => 9}}, []},
     {"a start anew counts from 0", #{checkins => 500, connect_failures => 7, closed => 500, errors => #{timeout => 100}}, #{connect_failures => 0}, []}].

findings_test_() ->
    [{What, ?_assertEqual(Expected, [{Severity, Cause} || #{severity := Severity, cause := Cause} <- found(Before, Now)])}
     || {What, Before, Now, Expected} <- table()].

%% Of why connecting fails.
causes_test_() ->
    [{lists:flatten(io_lib:format("~tp", [Last])),
      ?_assertMatch([#{severity := error, cause := Cause}],
                    found(#{}, #{idle => 0, total => 0, connect_failures => 1, last_error => Last, last_error_at => 900}))}
     || {Cause, Lasts} <- [{host_down, [econnrefused, timeout, etimedout, ehostunreach, enetunreach, closed, econnreset, enoent]},
                           {dns, [nxdomain]},
                           {certificate_expired, [{tls, certificate_expired}]},
                           {tls, [{tls, unknown_ca}, {tls, {alert, handshake_failure}}]},
                           {init, [{init, wrong_password}]},
                           {worker, [{worker, badfun}]},
                           {limits, [emfile, system_limit, enomem]},
                           {connect, [{node, wrong_cookie}, {unread_bytes, <<"hello">>}]}],
        Last <- Lasts].

gone_test() ->
    Now = reading(#{}),
    ?assertMatch([#{severity := error, cause := stopped, text := <<"db: no pool", _/binary>>}],
                 sockpool_verdict:findings(Now, #{name => db, at => 2000, clock => 1000, state => stopped})),
    ?assertMatch([#{severity := error, cause := crashed}],
                 sockpool_verdict:findings(Now, #{name => db, at => 2000, clock => 1000, state => crashed})).

%% The first reading was of none.
just_started_test() ->
    ?assertEqual([], sockpool_verdict:findings(#{name => db, at => 0, clock => 0, state => stopped}, reading(#{connect_failures => 5}))).

%% Without histograms and facts, as of a node of before.
little_known_test() ->
    Less = fun(Reading) -> maps:without([histograms, facts], Reading) end,
    Now = (Less(reading(#{idle => 0, leased => 10, waiting => 3, oldest_wait => 2000, checkins => 5})))#{at => 2000},
    ?assertMatch([#{severity := error, cause := pool_too_small}], sockpool_verdict:findings(Less(reading(#{})), Now)).

%% What a server says may be long, and a pool may be called anything.
words_test() ->
    [#{text := Text}] = found(#{}, #{idle => 0, total => 0, connect_failures => 1, last_error => {unread_bytes, binary:copy(<<"x">>, 100000)},
                                     last_error_at => 900}),
    ?assert(byte_size(Text) < 1000),
    [#{text := Named}] = sockpool_verdict:findings(reading(#{}), #{name => 'ein Ü <b>', at => 0, clock => 0, state => stopped}),
    ?assertMatch(<<"'ein Ü <b>': "/utf8, _/binary>>, Named).

found(Before, Now) ->
    Second = maps:merge_with(fun(_Key, _Old, New) -> New end, Before, Now),
    sockpool_verdict:findings(reading(Before), (reading(added(Before, Second)))#{at => 2000}).

%% Histograms count on.
added(Before, Now) ->
    maps:map(fun(Key, {Count, Us}) when Key =:= use; Key =:= wait; Key =:= connect ->
                     case {Before, Now} of
                         {#{Key := {Count0, Us0}}, _} when {Count0, Us0} =/= {Count, Us} -> [{Count0, Us0}, {Count, Us}];
                         _ -> {Count, Us}
                     end;
                (_Key, Value) -> Value
             end, Now).

reading(Given) ->
    Gauges = maps:merge(#{name => db, size => 8, max_overflow => 2, total => 8, idle => 8, closed_by => #{}, errors => #{}, connect_failed_by => #{},
                          last_error => undefined, last_error_at => undefined}, maps:without([use, wait, connect, held], Given)),
    #{name => db, at => 1000, clock => 1000, state => running, stats => Gauges,
      facts => #{server => "10.0.0.7:5432", transport => tcp, checkout_timeout => 5000,
                 held => [#{owner => self(), in_io => InIo} || InIo <- maps:get(held, Given, [])]},
      histograms => #{bounds => ?BOUNDS, use => histogram(use, Given), wait => histogram(wait, Given),
                      connect => #{total => histogram(connect, Given)}}}.

histogram(Key, Given) ->
    Groups = lists:flatten([maps:get(Key, Given, [])]),
    #{count => lists:sum([Count || {Count, _} <- Groups]), sum => lists:sum([Count * Us || {Count, Us} <- Groups]),
      buckets => [lists:sum([Count || {Count, Us} <- Groups, bucket(Us) =:= At]) || At <- lists:seq(1, length(?BOUNDS) + 1)]}.

bucket(Us) -> 1 + length(lists:takewhile(fun(Bound) -> Bound < Us end, ?BOUNDS)).
