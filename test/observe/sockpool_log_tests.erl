%%% How much is written, in virtual time, and what it is in words.
-module(sockpool_log_tests).

-include_lib("eunit/include/eunit.hrl").

-define(EVERY, 10000).

%% The table is sockpool's where that runs.
limit_test_() ->
    {setup,
     fun() -> ets:info(sockpool_log_limit, size) =:= undefined andalso sockpool_log_limit:new() =:= ok end,
     fun(Made) -> _ = Made andalso ets:delete(sockpool_log_limit) end,
     fun(_) -> [{"one at once, and then one in ten seconds", fun one_in_a_while/0}, {"pools and events apart", fun apart/0},
                {"the table does not grow", fun forgotten/0}, {"no interval, no limit", fun unlimited/0}] end}.

one_in_a_while() ->
    What = make_ref(),
    At = fun(Ms) -> sockpool_log_limit:allow(What, Ms, ?EVERY) end,
    ?assertEqual([{true, 0}, false, false, false, {true, 3}, false, {true, 1}, {true, 0}],
                 [At(Ms) || Ms <- [-5000, -5000, 0, 4999, 5000, 5001, 15000, 99000]]).

apart() ->
    Ref = make_ref(),
    ?assertEqual([{true, 0}, {true, 0}, {true, 0}, false],
                 [sockpool_log_limit:allow(What, 0, ?EVERY) || What <- [{leak, Ref}, {crashed, Ref}, {leak, other}, {leak, Ref}]]),
    true = ets:delete(sockpool_log_limit, erlang:phash2({leak, other}, 1 bsl 32)).

%% Those whose time is over are of no use, whatever they have left out. Nothing of a pool is kept but a number.
forgotten() ->
    [sockpool_log_limit:allow({leak, N}, -1000000 + 10 * N, ?EVERY) || N <- lists:seq(1, 10000)],
    ?assert(ets:info(sockpool_log_limit, size) =< 2000),
    ?assertEqual([], [Row || {Key, _, _} = Row <- ets:tab2list(sockpool_log_limit), not is_integer(Key)]),
    true = ets:delete_all_objects(sockpool_log_limit).

unlimited() ->
    What = make_ref(),
    ?assertEqual([{true, 0}, {true, 0}, {true, 0}], [sockpool_log_limit:allow(What, 0, 0) || _ <- [1, 2, 3]]).

%% Those that a handler gets, of what the code reports.
words_test_() ->
    [{atom_to_list(maps:get(event, Report)), ?_assertEqual(Expected, text(Report))}
     || {Report, Expected} <-
            [{#{event => cannot_connect, pool => db, server => "10.0.0.7:5432", transport => tls, attempt => ", attempt 3", reason => econnrefused, at => ""},
              "sockpool db: cannot connect to 10.0.0.7:5432 (tls, attempt 3): econnrefused"},
             {#{event => connected_again, pool => db, server => "10.0.0.7:5432", transport => tcp, failures => 7},
              "sockpool db: connected again to 10.0.0.7:5432, after 7 failures"},
             {#{event => connected_again, pool => db, server => "my:start", transport => worker, failures => 7},
              "sockpool db: a worker was started again by my:start, after 7 failures"},
             {#{event => check_failed, pool => db, server => "h:1", reason => timeout, suppressed => 12},
              "sockpool db: a check of an idle connection to h:1 failed, which is closed: timeout (and 12 more like this since the last line)"},
             {#{event => started_late, pool => {db, n@h}, count => 3, reason => timeout},
              "sockpool db of n@h: started, but 3 of its connections are not up in time: " ++ words(timeout)},
             {#{event => crashed, service => sockpool_janitor, reason => killed},
              "sockpool sockpool_janitor: its process has ended, and is started again: killed"},
             {#{event => not_started, pool => p, reason => {bad_option, size, lots}},
              "sockpool pool p does not start: " ++ words({bad_option, size, lots})},
             {#{event => daemon, node => "n@h", line => "event=registered"}, "sockpool_node n@h: event=registered"}]].

words(Reason) -> unicode:characters_to_list(sockpool_error:format(Reason)).

text(Report) ->
    {Format, Args} = sockpool_log:format(Report),
    lists:flatten(io_lib:format(Format, Args)).
