%%% That what sockpool writes to the log is seen: by a handler with the filters of OTP's own, as a report, and not too often.
-module(sockpool_log_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, log/2]).
-export([seen/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [seen].

init_per_suite(Config) ->
    _ = application:stop(sockpool),
    Config.

end_per_suite(_Config) -> ok.

log(Event, #{config := Pid}) -> Pid ! {logged, Event}, ok.

seen(_Config) ->
    Filters = [{domain, {fun logger_filters:domain/2, {log, super, [otp, sasl]}}},
               {no_domain, {fun logger_filters:domain/2, {log, undefined, []}}}],
    ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => self(), filters => Filters, filter_default => stop}),
    try
        {ok, _} = application:ensure_all_started(sockpool),
        Fails = fun() -> {error, _} = sockpool:start_link(log_seen, #{host => "h", port => 0}) end,
        [Fails() || _ <- lists:seq(1, 4)],
        receive
            {logged, #{level := error, msg := {report, #{event := not_started, pool := log_seen}}, meta := #{domain := [sockpool]}} = Event} ->
                {ok, Line} = sockpool_test_log:line(Event),
                ?assertMatch("sockpool pool log_seen does not start: option port: 0" ++ _, Line)
        after 10000 -> error(not_logged)
        end,
        ?assertEqual([], [Again || {logged, #{msg := {report, #{pool := log_seen}}} = Again} <- element(2, process_info(self(), messages))]),
        ok = application:stop(sockpool),
        {ok, #{filters := After}} = logger:get_handler_config(?MODULE),
        ?assertEqual(Filters, After)
    after
        ok = sockpool_test_log:forget(?MODULE)
    end.
