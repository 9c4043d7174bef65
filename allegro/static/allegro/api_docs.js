"use strict";

const { schema } = document.getElementById("api").dataset;

// Without `validatorUrl: null` the page would show the description to a service on the internet.
SwaggerUIBundle({ url: schema, dom_id: "#api", validatorUrl: null });
