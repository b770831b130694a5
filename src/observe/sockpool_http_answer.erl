%%% @private
%%% What the HTTP server answers: httpd calls do/1 for each request, in a process of the connection. GET and HEAD only, and
%%% nothing changes anything. What comes from outside makes no atom.
-module(sockpool_http_answer).

-export([begin_with/1, do/1]).

%% httpd's, as its documentation has it (inets/include/httpd.hrl); that file need not be there when this is compiled.
-record(mod, {init_data, data = [], socket_type, socket, config_db, method, absolute_uri, request_uri, http_version,
              request_line, parsed_header = [], entity_body, connection}).

-define(JSON, "application/json; charset=utf-8").
-define(PAGE, {?MODULE, page}).
-define(LOOPBACK, {?MODULE, loopback}).
%% The page's own script and style, and requests to this server: nothing else.
-define(POLICY, [{"content-security-policy",
                  "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                  "require-trusted-types-for 'script'; trusted-types 'none'"},
                 {"x-frame-options", "DENY"}]).

%% @doc Once, before the first request: reads the page.
-spec begin_with(inet:ip_address()) -> ok.
begin_with(Ip) ->
    Dir = filename:join(code:priv_dir(sockpool), "page"),
    Files = [begin
                 {ok, Text} = file:read_file(filename:join(Dir, File)),
                 {list_to_binary(Path), {Type, Text}}
             end || {Path, File, Type} <- [{"", "page.html", "text/html"}, {"page.css", "page.css", "text/css"},
                                           {"page.js", "page.js", "text/javascript"}]],
    ok = persistent_term:put(?PAGE, maps:from_list(Files)),
    persistent_term:put(?LOOPBACK, element(1, Ip) =:= 127 orelse Ip =:= {0, 0, 0, 0, 0, 0, 0, 1}).

-spec do(tuple()) -> {proceed, list()}.
do(#mod{method = Method, request_uri = Uri, parsed_header = Headers}) ->
    Answer = try
                 answer(Method, Uri, Headers)
             catch
                 %% Nothing of it is shown: it may have what is nobody's business.
                 _:_ -> failed(500, "something went wrong")
             end,
    {proceed, [{response, response(Method, Answer)}]}.

response(Method, {Code, Headers, Body}) ->
    Size = integer_to_list(iolist_size(Body)),
    Head = [{code, Code}, {content_length, Size}, {cache_control, "no-store"}, {"x-content-type-options", "nosniff"},
            {"referrer-policy", "no-referrer"}, {"cross-origin-resource-policy", "same-origin"} | Headers],
    {response, Head, case Method of "HEAD" -> nobody; _ -> [Body] end}.

json(Code, Term) -> {Code, [{content_type, ?JSON}], sockpool_json:encode(Term)}.

failed(Code, Why) -> json(Code, #{error => {text, Why}}).

answer(Method, Uri, Headers) when Method =:= "GET"; Method =:= "HEAD" ->
    case {addressed(Headers), request(Uri)} of
        {false, _} -> failed(403, "ask for it as localhost, or by its address");
        {true, error} -> failed(400, "not a path that this server has");
        {true, {Path, Query}} -> routed(Path, Query, Headers)
    end;
answer(_Method, _Uri, _Headers) ->
    {Code, Own, Body} = failed(405, "GET and HEAD only"),
    {Code, [{allow, "GET, HEAD"} | Own], Body}.

%% A name that leads here is a page's of somebody else, which would read what is here (DNS rebinding). Who lets others
%% in than this host itself knows by which names.
addressed(Headers) ->
    case persistent_term:get(?LOOPBACK, true) of
        true -> is_local(string:lowercase(proplists:get_value("host", Headers, "localhost")));
        false -> true
    end.

is_local("[" ++ _) ->
    true;
is_local(Host) ->
    Name = hd(string:split(Host, ":")),
    Name =:= "localhost" orelse element(1, inet:parse_strict_address(Name)) =:= ok.

request(Uri) ->
    {Raw, Query} = case string:split(Uri, "?") of [One] -> {One, ""}; [One, Other] -> {One, Other} end,
    case {segments(Raw), query(Query)} of
        {error, _} -> error;
        {_, error} -> error;
        Request -> Request
    end.

segments("/" ++ Path) ->
    Segments = [decoded(Segment) || Segment <- string:split(Path, "/", all)],
    case lists:member(error, Segments) of true -> error; false -> Segments end;
segments(_) ->
    error.

decoded(Text) ->
    try uri_string:percent_decode(list_to_binary(Text)) of
        Binary when is_binary(Binary) ->
            case unicode:characters_to_binary(Binary) of Binary -> Binary; _ -> error end;
        _ ->
            error
    catch
        _:_ -> error
    end.

query("") ->
    [];
query(Query) ->
    try uri_string:dissect_query(list_to_binary(Query)) of
        Pairs when is_list(Pairs) -> [{Key, Value} || {Key, Value} <- Pairs, is_binary(Value)];
        _ -> error
    catch
        _:_ -> error
    end.

value(Key, Query, Default) -> proplists:get_value(Key, Query, Default).

routed([<<"api">>, <<"pools">>], Query, _Headers) ->
    case number(value(<<"since">>, Query, <<"0">>)) of
        error -> failed(400, "since is a number");
        Since -> json(200, sockpool_http_view:pools(Since))
    end;
routed([<<"api">>, <<"pools">>, Name], _Query, _Headers) ->
    found(Name, fun sockpool_http_view:pool/1);
routed([<<"api">>, <<"connections">>, Name], _Query, _Headers) ->
    found(Name, fun sockpool_http_view:connections/1);
routed([<<"api">>, <<"events">>], Query, _Headers) ->
    events(number(value(<<"since">>, Query, <<"0">>)), severity(value(<<"severity">>, Query, <<"notice">>)));
routed([<<"ready">>], Query, _Headers) ->
    Names = [Name || Name <- binary:split(value(<<"pool">>, Query, <<>>), <<",">>, [global]), Name =/= <<>>],
    {Ready, Shown} = sockpool_http_view:ready(Names),
    json(if Ready -> 200; true -> 503 end, Shown);
routed([<<"metrics">>], _Query, Headers) ->
    Format = format(proplists:get_value("accept", Headers, "")),
    {200, [{content_type, binary_to_list(sockpool_metrics:content_type(Format))}], sockpool_metrics:text(#{format => Format})};
routed([File], _Query, _Headers) ->
    case persistent_term:get(?PAGE) of
        #{File := {Type, Text}} -> {200, [{content_type, Type ++ "; charset=utf-8"} | ?POLICY], Text};
        #{} -> nothing()
    end;
routed(_Path, _Query, _Headers) ->
    nothing().

nothing() ->
    failed(404, "there is /, /api/pools, /api/pools/NAME, /api/connections/NAME, /api/events, /ready and /metrics").

format(Accept) ->
    case string:find(Accept, "application/openmetrics-text") of nomatch -> prometheus; _ -> openmetrics end.

found(Text, View) ->
    case sockpool_http_view:name(Text) of
        {ok, Name} ->
            case View(Name) of
                {ok, Shown} -> json(200, Shown);
                {error, not_found} -> failed(404, "there is no such pool")
            end;
        error ->
            failed(404, "there is no such pool")
    end.

events(error, _) -> failed(400, "since is a number");
events(_, error) -> failed(400, "severity is debug, info, notice, warning or error");
events(Since, {ok, Severity}) -> json(200, sockpool_http_view:events(Since, Severity)).

number(Text) when byte_size(Text) > 0, byte_size(Text) < 18 ->
    case string:to_integer(Text) of
        {Number, <<>>} when Number >= 0 -> Number;
        _ -> error
    end;
number(_) ->
    error.

severity(Text) ->
    case [Severity || Severity <- sockpool_event_table:severities(), atom_to_binary(Severity, utf8) =:= Text] of
        [Severity] -> {ok, Severity};
        [] -> error
    end.
